import { LIVES, render } from "$lib/server.js";

export function load({ setHeaders, url }) {
  setHeaders(LIVES);
  return { topic: url.searchParams.get("topic") ?? "nothing", rendered: render() };
}
