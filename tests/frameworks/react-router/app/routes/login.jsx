import { Form, redirect } from "react-router";
import { Page } from "../page.jsx";

export async function action({ request }) {
  const form = await request.formData();
  return redirect("/hello", { headers: { "set-cookie": `who=${form.get("name")}; Path=/` } });
}

export default function Login() {
  return (
    <Page name="login">
      <Form method="post">
        <input id="name" name="name" />
        <button id="log-in">log in</button>
      </Form>
    </Page>
  );
}
