import { Page, headers } from "../page.jsx";
import { lives } from "../site.server.js";

export { headers };

export const loader = () => lives();

export default function Slash({ loaderData }) {
  return (
    <Page name="slash" rendered={loaderData.rendered}>
      <p>With a slash at its end.</p>
    </Page>
  );
}
