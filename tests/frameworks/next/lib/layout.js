import Link from "next/link";

export function PagesLayout({ name, rendered, children }) {
  return (
    <main>
      <h1 id="page">{name}</h1>
      <p id="rendered">{rendered}</p>
      <p id="build">{process.env.BUILD}</p>
      {children}
      <nav>
        <Link id="to-home" href="/">home</Link>
        <Link id="to-isr" href="/isr">isr</Link>
        <Link id="to-static" href="/static">static</Link>
        <Link id="to-ssr" href="/ssr" prefetch={false}>ssr</Link>
        <Link id="to-blog" href="/blog/one">blog</Link>
      </nav>
    </main>
  );
}
