export default defineEventHandler((event) => {
  setHeader(event, "cache-control", "private, no-store");
  return { who: nameOf(event), rendered: rendered() };
});
