import * as React from "react";
import { Layout } from "../../layout";

// Routes that only the browser knows.
export default function App({ params }) {
  return <Layout name={`app ${params["*"]}`} rendered="in the browser" />;
}
