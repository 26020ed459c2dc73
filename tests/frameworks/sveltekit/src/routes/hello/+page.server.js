import { render } from "$lib/server.js";

export function load({ setHeaders, cookies }) {
  setHeaders({ "cache-control": "private, no-store" });
  return { who: cookies.get("who") ?? "nobody", rendered: render() };
}
