// What every page shows of its render, so that a test can tell renders apart and
// count them: an id in the page, and a line in the file that RENDERS names.
import fs from "node:fs";

let count = 0;

export function render(page) {
  const id = `${Date.now()}-${process.pid}-${(count += 1)}`;
  if (process.env.RENDERS) fs.appendFileSync(process.env.RENDERS, `${page} ${id}\n`);
  return id;
}
