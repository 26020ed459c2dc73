import { Page, headers } from "../page.jsx";
import { lives } from "../site.server.js";

export { headers };

export const loader = ({ request }) => lives({ topic: new URL(request.url).searchParams.get("topic") ?? "nothing" });

export default function Query({ loaderData }) {
  return (
    <Page name={`query ${loaderData.topic}`} rendered={loaderData.rendered}>
      <p>All about {loaderData.topic}.</p>
    </Page>
  );
}
