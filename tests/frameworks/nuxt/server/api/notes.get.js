export default defineEventHandler((event) => {
  lives(event);
  return { notes: [...notes], rendered: rendered() };
});
