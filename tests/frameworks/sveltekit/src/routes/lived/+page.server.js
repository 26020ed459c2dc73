import { LIVES, render } from "$lib/server.js";

export function load({ setHeaders }) {
  setHeaders(LIVES);
  return { rendered: render() };
}
