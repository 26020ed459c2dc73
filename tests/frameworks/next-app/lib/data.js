import { cacheLife, cacheTag } from "next/cache";
import { readNotes } from "./notes";

// A render that is kept: told apart by its time.
export async function connectionId(page, lang) {
  "use cache";
  cacheLife({ stale: 30, revalidate: 60, expire: 600 });
  return `${page} ${lang} ${Date.now()}`;
}

export async function notes() {
  "use cache";
  cacheTag("notes");
  cacheLife("days");
  return readNotes();
}
