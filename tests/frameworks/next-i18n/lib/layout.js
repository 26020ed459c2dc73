import Link from "next/link";
import { useRouter } from "next/router";
import { useEffect, useState } from "react";

// Shows what the router says of the URL: the server and the browser must agree on it.
export function Layout({ name, rendered, children }) {
  const { asPath, locale, basePath } = useRouter();
  const [ready, setReady] = useState(false);
  useEffect(() => setReady(true), []);
  return (
    <main>
      <h1 id="page">{name}</h1>
      <p id="rendered" data-varies="">{rendered}</p>
      <p id="path">{asPath}</p>
      <p id="locale">/{locale}</p>
      <p id="base">{basePath}</p>
      {children}
      <nav data-ready={ready || undefined}>
        <Link id="to-home" href="/">home</Link>
        <Link id="to-a" href="/blog/a">a</Link>
        <Link id="to-b" href="/blog/b">b</Link>
        <Link id="to-server" href="/server?q=1" prefetch={false}>server</Link>
        <Link id="to-de" href="/" locale="de">deutsch</Link>
      </nav>
    </main>
  );
}
