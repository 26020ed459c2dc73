const lives = { "cache-control": "public, s-maxage=600" };

export default defineNuxtConfig({
  compatibilityDate: "2026-01-01",
  telemetry: false,
  devtools: { enabled: false },
  experimental: { componentIslands: true },
  app: { head: { link: [{ rel: "icon", href: "data:," }] } },
  nitro: { prerender: { crawlLinks: false, failOnError: true } },
  routeRules: {
    "/": { prerender: true },
    // Kept by Nitro itself, and so with a payload of its own.
    "/lived": { swr: 600 },
    "/query": { headers: lives },
    "/slash/**": { headers: lives },
    "/mislabelled": { headers: lives },
    "/notes": { headers: lives },
    "/island": { headers: lives },
    "/__nuxt_island/**": { headers: lives },
    "/hello": { headers: { "cache-control": "private, no-store" } },
    "/moved": { redirect: "/lived" },
  },
});
