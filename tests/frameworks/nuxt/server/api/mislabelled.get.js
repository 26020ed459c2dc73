export default defineEventHandler((event) => {
  lives(event);
  return { who: nameOf(event), rendered: rendered() };
});
