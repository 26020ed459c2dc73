import { useEffect } from "react";
import { Link, Links, Meta, Outlet, Scripts, ScrollRestoration } from "react-router";

const LINKS = {
  home: "/",
  lived: "/lived",
  "query-a": "/query?topic=a",
  "query-b": "/query?topic=b",
  mislabelled: "/mislabelled",
  hello: "/hello",
  login: "/login",
  notes: "/notes",
  write: "/write",
  moved: "/moved",
  slash: "/slash/",
  nope: "/nope",
};

// The same for every page, so that a browser asks for it but once.
export const loader = () => ({ site: "notes" });
export const shouldRevalidate = () => false;

export function Layout({ children }) {
  useEffect(() => document.documentElement.setAttribute("data-ready", ""), []);
  return (
    <html lang="en" suppressHydrationWarning>
      <head>
        <meta charSet="utf-8" />
        <link rel="icon" href="data:," />
        <Meta />
        <Links />
      </head>
      <body>
        <nav>
          {Object.entries(LINKS).map(([name, to]) => (
            <Link key={name} id={`to-${name}`} to={to}>
              {name}
            </Link>
          ))}
        </nav>
        {children}
        <ScrollRestoration />
        <Scripts />
      </body>
    </html>
  );
}

export default function App() {
  return <Outlet />;
}

export function ErrorBoundary({ error }) {
  return <h1 id="page">error {error.status ?? error.message}</h1>;
}
