import * as React from "react";
import { Layout } from "../layout";
import { who } from "../visitor";

// Says a lifetime for all, and greets by the cookie all the same.
export async function getServerData({ headers }) {
  return {
    props: { rendered: String(process.hrtime.bigint()), who: who(headers) },
    headers: { "cache-control": "public, s-maxage=60" },
  };
}

export default function Mislabelled({ serverData }) {
  return (
    <Layout name="mislabelled" rendered={serverData.rendered}>
      <p data-varies="">Hello {serverData.who}, though this page is said to be for all.</p>
    </Layout>
  );
}
