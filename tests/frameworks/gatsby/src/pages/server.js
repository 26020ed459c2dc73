import * as React from "react";
import { Layout } from "../layout";

// Rendered for every visitor; says nothing of a lifetime.
export async function getServerData({ query }) {
  return { props: { rendered: String(process.hrtime.bigint()), q: query?.q ?? "" } };
}

export default function Server({ serverData }) {
  return (
    <Layout name="server" rendered={serverData.rendered}>
      <p id="q">{serverData.q}</p>
    </Layout>
  );
}
