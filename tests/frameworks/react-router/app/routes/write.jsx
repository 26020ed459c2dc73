import { Form, data, redirect } from "react-router";
import { Page } from "../page.jsx";
import { notes } from "../site.server.js";

export async function action({ request }) {
  const note = (await request.formData()).get("note");
  if (!note) return data({ missing: true }, { status: 400 });
  notes.push(note);
  return redirect("/notes");
}

export default function Write({ actionData }) {
  return (
    <Page name="write">
      {actionData?.missing && <p>There is no note.</p>}
      <Form method="post">
        <input id="note" name="note" />
        <button id="save">save</button>
      </Form>
    </Page>
  );
}
