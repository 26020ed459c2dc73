import * as React from "react";
import { Layout } from "../layout";

export default function Home() {
  return <Layout name="home" rendered="at the build" />;
}
