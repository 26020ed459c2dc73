export default defineEventHandler((event) => {
  lives(event);
  return { rendered: rendered() };
});
