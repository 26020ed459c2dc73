import { Link } from "gatsby";
import * as React from "react";
import { Layout } from "../layout";
import { who } from "../visitor";

// Greets by the cookie; says nothing of a lifetime.
export async function getServerData({ headers }) {
  return { props: { rendered: String(process.hrtime.bigint()), who: who(headers) } };
}

export default function Hello({ serverData }) {
  return (
    <Layout name="hello" rendered={serverData.rendered}>
      <p>Hello {serverData.who}</p>
      <Link id="to-nope" to="/nope/">nope</Link>
    </Layout>
  );
}
