import { LIVES, render } from "$lib/server.js";

export const trailingSlash = "always";

export function load({ setHeaders }) {
  setHeaders(LIVES);
  return { rendered: render() };
}
