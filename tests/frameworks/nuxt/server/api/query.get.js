export default defineEventHandler((event) => {
  lives(event);
  return { topic: getQuery(event).topic ?? "nothing", rendered: rendered() };
});
