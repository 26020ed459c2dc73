import * as React from "react";
import { Layout } from "../layout";

// A status and a cookie of its own.
export async function getServerData() {
  return { status: 418, props: { rendered: "tea" }, headers: { "set-cookie": "tea=1" } };
}

export default function Teapot({ serverData }) {
  return <Layout name="teapot" rendered={serverData.rendered} />;
}
