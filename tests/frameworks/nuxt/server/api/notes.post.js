export default defineEventHandler(async (event) => {
  const { note } = await readBody(event);
  notes.push(note);
  // Which page shows them: caches believe it (RFC 9111 §4.4).
  setHeader(event, "content-location", "/notes");
  return { saved: true };
});
