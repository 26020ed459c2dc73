import * as React from "react";
import { Layout } from "../layout";

export default function About() {
  return <Layout name="about" rendered="at the build" />;
}
