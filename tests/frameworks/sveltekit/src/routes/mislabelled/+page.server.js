import { LIVES, render } from "$lib/server.js";

export function load({ setHeaders, cookies }) {
  setHeaders(LIVES);
  return { who: cookies.get("who") ?? "nobody", rendered: render() };
}
