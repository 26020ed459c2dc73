import * as React from "react";
import { Layout } from "../layout";

// The time of the render on the server, which the browser leaves as it is.
const rendered = () => (typeof window === "undefined" ? String(process.hrtime.bigint()) : "");

export default function Deferred({ pageContext }) {
  return <Layout name={`deferred ${pageContext.n}`} rendered={rendered()} />;
}
