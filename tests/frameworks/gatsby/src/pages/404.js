import * as React from "react";
import { Layout } from "../layout";

export default function NotFound() {
  return <Layout name="not found" rendered="at the build" />;
}
