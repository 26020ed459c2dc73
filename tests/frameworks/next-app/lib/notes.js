// What an author writes, in the file that NOTES names.
import fs from "node:fs";

const file = () => process.env.NOTES;

export function readNotes() {
  if (!file() || !fs.existsSync(file())) return ["the first note"];
  return JSON.parse(fs.readFileSync(file(), "utf8"));
}

export function addNote(text) {
  fs.writeFileSync(file(), JSON.stringify([...readNotes(), text]));
}
