import { Page, headers } from "../page.jsx";
import { lives, notes } from "../site.server.js";

export { headers };

export const loader = () => lives({ notes: [...notes] });

export default function Notes({ loaderData }) {
  return (
    <Page name="notes" rendered={loaderData.rendered}>
      <ul>
        {loaderData.notes.map((note) => (
          <li key={note}>{note}</li>
        ))}
      </ul>
    </Page>
  );
}
