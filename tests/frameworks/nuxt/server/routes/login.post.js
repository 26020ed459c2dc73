export default defineEventHandler(async (event) => {
  const { name } = await readBody(event);
  setCookie(event, "who", name, { path: "/" });
  return sendRedirect(event, "/hello", 303);
});
