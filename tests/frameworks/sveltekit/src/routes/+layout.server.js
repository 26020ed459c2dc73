// The same for every page, so that a browser asks for it but once.
export function load() {
  return { site: "notes" };
}
