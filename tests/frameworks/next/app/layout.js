import Link from "next/link";

export default function Layout({ children }) {
  return (
    <html lang="en">
      <body>
        {children}
        <nav>
          <Link id="to-a" href="/a">a</Link>
          <Link id="to-b" href="/b">b</Link>
          <Link id="to-c" href="/c/1">c</Link>
          <Link id="to-dynamic" href="/dynamic" prefetch={false}>dynamic</Link>
        </nav>
      </body>
    </html>
  );
}
