import Link from "next/link";
import { notes } from "../../../lib/data";

export default async function Notes() {
  const all = await notes();
  return (
    <main>
      <h1 id="page">notes</h1>
      <ul>{all.map((note) => <li key={note}>{note}</li>)}</ul>
      <Link id="to-new" href="/notes/new">write</Link>
    </main>
  );
}
