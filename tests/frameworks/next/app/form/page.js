import { AppPage } from "../../lib/page";
import { render } from "../../lib/render";

async function save() {
  "use server";
  render("action");
}

export default function Form() {
  return (
    <AppPage name="form" rendered={render("/form")}>
      <form action={save}>
        <button id="save" type="submit">save</button>
      </form>
    </AppPage>
  );
}
