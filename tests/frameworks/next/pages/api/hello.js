export default function handler(req, res) {
  res.setHeader("x-seen-internal", String(req.headers["x-middleware-subrequest"] ?? "none"));
  res.json({ hello: Date.now() });
}
