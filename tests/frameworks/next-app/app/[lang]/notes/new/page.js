import { updateTag } from "next/cache";
import { redirect } from "next/navigation";
import { addNote } from "../../../../lib/notes";

async function save(data) {
  "use server";
  addNote(data.get("text"));
  updateTag("notes");
  redirect("/notes");
}

export default function New() {
  return (
    <main>
      <h1 id="page">write</h1>
      <form action={save}>
        <input id="text" name="text" />
        <button id="save" type="submit">save</button>
      </form>
    </main>
  );
}
