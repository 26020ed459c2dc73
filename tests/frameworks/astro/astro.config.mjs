import node from "@astrojs/node";
import { defineConfig } from "astro/config";

export default defineConfig({
  output: "server",
  adapter: node({ mode: "standalone" }),
  redirects: { "/moved": { status: 307, destination: "/lived" } },
  // Whose hosts it believes: without one of them no form may be posted.
  security: { allowedDomains: [{ protocol: "http", hostname: "127.0.0.1" }] },
  devToolbar: { enabled: false },
});
