import { Link, Slice, graphql, useStaticQuery } from "gatsby";
import * as React from "react";

// `rendered` is when the server rendered this, as the test reads it.
export function Layout({ name, rendered, children }) {
  // From now on the page takes clicks.
  React.useEffect(() => document.documentElement.setAttribute("data-ready", ""), []);
  const { site } = useStaticQuery(graphql`{ site { siteMetadata { title } } }`);
  return (
    <main>
      <h1 id="page">{name}</h1>
      <p id="rendered" data-varies="" suppressHydrationWarning>{rendered}</p>
      <p id="build">{process.env.GATSBY_BUILD}</p>
      {children}
      <nav>
        <Link id="to-home" to="/">home</Link>
        <Link id="to-about" to="/about/">about</Link>
        <Link id="to-deferred-1" to="/deferred/1/">deferred 1</Link>
        <Link id="to-deferred-2" to="/deferred/2/">deferred 2</Link>
        <Link id="to-server" to="/server/">server</Link>
        <Link id="to-lived" to="/lived/">lived</Link>
        <Link id="to-hello" to="/hello/">hello</Link>
        <Link id="to-mislabelled" to="/mislabelled/">mislabelled</Link>
        <Link id="to-dotted" to="/posts/node.js/">node.js</Link>
        <Link id="to-app" to="/app/inbox/">app</Link>
        <Link id="to-outbox" to="/app/outbox/">outbox</Link>
      </nav>
      <p id="title">{site.siteMetadata.title}</p>
      <Slice alias="footer" />
    </main>
  );
}
