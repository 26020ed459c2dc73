// What the visitors of the Gatsby site do, for differential.mjs and isolation.mjs; the
// site's own checks are in gatsby.mjs. Its pages:
//
//   /, /about/          made when the site is built, as all that says nothing else
//   /posts/node.js/     the same, with a dot in its name
//   /deferred/N/        made when it is first asked for
//   /app/…              the browser alone knows these
//   /lived/             has a lifetime, and is the same for all
//   /server/            rendered for each visitor and each `q`, without a lifetime
//   /hello/             greets by the cookie, without a lifetime
//   /mislabelled/       says a lifetime and greets by a cookie all the same
//   /teapot/            has a status and a cookie of its own
//   /about, /nope/      lead to their slash, and are not there

const alice = { name: "alice", secret: "alice-of-the-hill", cookies: { who: "alice-of-the-hill" } };
const bob = { name: "bob", secret: "bob-of-the-lake", cookies: { theme: "dark", who: "bob-of-the-lake" } };
const nobody = { name: "nobody", secret: null };

// By links, as somebody who comes in at the front door.
alice.steps = [
  ["goto", "/", "home", { text: "footer of one" }],
  ["click", "to-about", "about"],
  ["click", "to-deferred-1", "deferred 1"],
  ["click", "to-hello", "hello", { text: `Hello ${alice.secret}` }],
  ["click", "to-nope", "not found"],
  ["click", "to-dotted", "deferred node.js"],
  ["click", "to-app", "app inbox"],
  ["click", "to-outbox", "app outbox"],
  ["back", "app inbox"],
  ["back", "deferred node.js"],
  ["click", "to-server", "server"],
  ["click", "to-lived", "lived"],
  ["click", "to-mislabelled", "mislabelled"],
  ["click", "to-deferred-2", "deferred 2"],
  ["reload", "deferred 2", { text: "footer of one" }],
  ["goto", "/hello/", "hello", { text: `Hello ${alice.secret}` }],
  ["reload", "hello", { text: `Hello ${alice.secret}` }],
  ["goto", "/app/inbox/", "app inbox"],
  ["goto", "/nope/", "not found"],
  ["goto", "/about", "about"],
];
// By documents, and by links in another order: what was data is now a document.
bob.steps = [
  ["goto", "/mislabelled/", "mislabelled"],
  ["click", "to-hello", "hello", { text: `Hello ${bob.secret}` }],
  ["reload", "hello", { text: `Hello ${bob.secret}` }],
  ["goto", "/deferred/1/", "deferred 1"],
  ["reload", "deferred 1"],
  ["click", "to-home", "home"],
  ["reload", "home"],
  ["click", "to-app", "app inbox"],
  ["reload", "app inbox"],
  ["goto", "/posts/node.js/", "deferred node.js"],
  ["click", "to-deferred-2", "deferred 2"],
  ["back", "deferred node.js"],
  ["forward", "deferred 2"],
  ["goto", "/server/?q=pear", "server", { text: "pear" }],
  ["click", "to-mislabelled", "mislabelled"],
  ["goto", "/lived/", "lived"],
  ["goto", "/teapot/", "teapot"],
  ["goto", "/hello/", "hello", { text: `Hello ${bob.secret}` }],
  ["click", "to-nope", "not found"],
  ["goto", "/nope/", "not found"],
  ["click", "to-about", "about"],
  ["goto", "/about", "about"],
];
nobody.steps = [
  ["goto", "/hello/", "hello", { text: "Hello nobody" }],
  ["click", "to-deferred-1", "deferred 1"],
  ["click", "to-mislabelled", "mislabelled"],
  ["back", "deferred 1"],
  ["goto", "/mislabelled/", "mislabelled"],
  ["click", "to-hello", "hello", { text: "Hello nobody" }],
  ["goto", "/server/?q=plum", "server", { text: "plum" }],
  ["goto", "/app/outbox/", "app outbox"],
];

export const data = (path) => `/page-data${path === "/" ? "/index/" : path}page-data.json`;
// All client routes are one page.
const page = (path) =>
  path
    .replace(/^\/page-data\/index\/page-data\.json/, "/")
    .replace(/^\/page-data(\/.*\/)page-data\.json/, "$1")
    .replace(/^\/app\/.*/, "/app/");
const pages = ["/", "/about/", "/posts/node.js/", "/deferred/1/", "/deferred/2/", "/lived/", "/server/", "/hello/", "/mislabelled/", "/teapot/", "/nope/"];

// What a suite adds is how the site is served.
export const tour = {
  visitors: [alice, bob, nobody],
  ready: "html[data-ready]",
  fails: ["hits"],
  data: (path) => /^\/(page-data\/(?!app-data)|slice-data\/)/.test(path),
  // Or kept for a while only, which a slow machine may exceed.
  dynamic: (path) => /^\/(server|hello|mislabelled|teapot|lived|nope)\//.test(page(path)),
  page,
  // Prefetches, of every page that a link in sight leads to.
  unasked: (path) => /^\/page-data\/.*\/page-data\.json/.test(path),
  cookies: (name) => ({ theme: "light", who: name }),
  paths: [...pages.flatMap((path) => [path, data(path)]), "/app/inbox/", "/app/outbox/", data("/app/[...]/"), "/server/?q=a", "/about", "/slice-data/footer.json"],
};
