import { Page, headers } from "../page.jsx";
import { lives, nameOf } from "../site.server.js";

export { headers };

export const loader = ({ request }) => lives({ who: nameOf(request) });

export default function Mislabelled({ loaderData }) {
  return (
    <Page name="mislabelled" rendered={loaderData.rendered}>
      <p data-varies="">Hello {loaderData.who}, though this page is said to be for all.</p>
    </Page>
  );
}
