import Link from "next/link";

export default function Photos() {
  return (
    <main>
      <h1 id="page">photos</h1>
      <Link id="to-photo" href="/photos/1">photo 1</Link>
    </main>
  );
}
