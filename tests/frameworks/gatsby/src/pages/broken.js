import * as React from "react";

export async function getServerData() {
  throw new Error("this page is broken on purpose");
}

export default function Broken() {
  return <p>never seen</p>;
}
