import * as React from "react";
import { Layout } from "../layout";

// Rendered on the server, and good for a while.
export async function getServerData() {
  return {
    props: { rendered: String(process.hrtime.bigint()) },
    headers: { "cache-control": "public, s-maxage=2, stale-while-revalidate=30", "x-lived": "yes" },
  };
}

export default function Lived({ serverData }) {
  return <Layout name="lived" rendered={serverData.rendered} />;
}
