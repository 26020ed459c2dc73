import { Layout } from "../lib/layout";
import { render } from "../lib/render";

export async function getServerSideProps({ req, query, locale }) {
  const visitor = req.cookies.visitor ?? "nobody";
  return { props: { rendered: render(`/${locale}/server`), visitor, q: query.q ?? "" } };
}

export default function Server({ rendered, visitor, q }) {
  return (
    <Layout name="server" rendered={rendered}>
      <p id="visitor">{visitor}</p>
      <p id="q">{q}</p>
    </Layout>
  );
}
