import { Page, headers } from "../page.jsx";
import { isPrivate, nameOf } from "../site.server.js";

export { headers };

export const loader = ({ request }) => isPrivate({ who: nameOf(request) });

export default function Hello({ loaderData }) {
  return (
    <Page name="hello" rendered={loaderData.rendered}>
      <p>{`Hello ${loaderData.who}`}</p>
    </Page>
  );
}
