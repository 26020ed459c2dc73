import { Page, headers } from "../page.jsx";
import { lives } from "../site.server.js";

export { headers };

export const loader = () => lives();

export default function Lived({ loaderData }) {
  return (
    <Page name="lived" rendered={loaderData.rendered}>
      <p>The same for all, for ten minutes.</p>
    </Page>
  );
}
