import { PagesLayout } from "../lib/layout";
import { render } from "../lib/render";

export async function getServerSideProps({ req, query }) {
  const visitor = req.cookies.visitor ?? "nobody";
  return { props: { rendered: render("/ssr"), visitor, q: query.q ?? "" } };
}

export default function Ssr({ rendered, visitor, q }) {
  return (
    <PagesLayout name="ssr" rendered={rendered}>
      <p id="visitor">{visitor}</p>
      <p id="q">{q}</p>
    </PagesLayout>
  );
}
