import { LIVES, notes, render } from "$lib/server.js";

export function load({ setHeaders }) {
  setHeaders(LIVES);
  return { notes: [...notes], rendered: render() };
}
