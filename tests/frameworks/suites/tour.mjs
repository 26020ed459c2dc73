// The small sites have the same pages, each in its framework's own way, so that
// their visitors can take the same steps:
//
//   /             made when the site is built
//   /lived        has a lifetime, and is the same for all
//   /query        the same, for each `topic`
//   /slash/       the same, with a slash at its end
//   /mislabelled  says a lifetime and greets by a cookie all the same: which visitor's
//                 rendering is kept is not said, but nobody's name may come to another
//   /hello        greets by the cookie, and is private
//   /login        a form: sets the cookie, and leads to /hello
//   /notes        has a lifetime, and what /write has changed
//   /write        a form: leads to /notes
//   /moved        leads to /lived
//   /nope         is not there

// The visitors. `missing` is what #page says where nothing is; `more(who)` are steps
// that only one site has.
export function visitors({ missing, more = () => [] }) {
  const alice = { name: "alice", secret: "alice-of-the-hill", cookies: {} };
  const bob = { name: "bob", secret: "bob-of-the-lake", cookies: { who: "bob-of-the-lake" } };
  const nobody = { name: "nobody", secret: null, cookies: {} };
  // By links, as somebody who comes in at the front door.
  alice.steps = [
    ["goto", "/", "home"],
    ["click", "to-lived", "lived"],
    ["click", "to-home", "home"],
    ["click", "to-query-a", "query a"],
    ["click", "to-query-b", "query b"],
    ["back", "query a"],
    ["forward", "query b"],
    ["click", "to-mislabelled", "mislabelled"],
    ["click", "to-hello", "hello", { text: "Hello nobody" }],
    ["click", "to-login", "login"],
    ["fill", "name", alice.secret],
    ["click", "log-in", "hello", { text: `Hello ${alice.secret}` }],
    ["click", "to-mislabelled", "mislabelled"],
    ["click", "to-slash", "slash"],
    ["click", "to-moved", "lived"],
    ["click", "to-notes", "notes"],
    ["click", "to-write", "write"],
    ["fill", "note", "a note by the first"],
    ["click", "save", "notes", { text: "a note by the first" }],
    ...more("alice"),
    ["click", "to-nope", missing],
    ["goto", "/hello", "hello"],
    ["goto", "/mislabelled", "mislabelled"],
    ["reload", "mislabelled"],
  ];
  // By documents, and by links in another order: what he asks for has other forms.
  bob.steps = [
    ["goto", "/notes", "notes", { text: "a note by the first" }],
    ["goto", "/mislabelled", "mislabelled"],
    ["click", "to-query-b", "query b"],
    ["click", "to-slash", "slash"],
    ["click", "to-lived", "lived"],
    ["click", "to-notes", "notes"],
    ["click", "to-query-a", "query a"],
    ["click", "to-mislabelled", "mislabelled"],
    ["click", "to-hello", "hello", { text: `Hello ${bob.secret}` }],
    ["reload", "hello", { text: `Hello ${bob.secret}` }],
    ["goto", "/lived", "lived"],
    ["goto", "/query?topic=b", "query b"],
    ["goto", "/slash/", "slash"],
    ["goto", "/", "home"],
    ["goto", "/moved", "lived"],
    ["goto", "/slash", "slash"],
    ["goto", "/lived/", "lived"],
    ...more("bob"),
    ["click", "to-write", "write"],
    ["fill", "note", "a note by the second"],
    ["click", "save", "notes", { text: "a note by the second" }],
    ["reload", "notes", { text: "a note by the second" }],
    ["goto", "/nope", missing],
  ];
  nobody.steps = [
    ["goto", "/hello", "hello", { text: "Hello nobody" }],
    ["click", "to-mislabelled", "mislabelled"],
    ["click", "to-notes", "notes", { text: "a note by the second" }],
    ["reload", "notes"],
    ["goto", "/mislabelled", "mislabelled"],
    ["click", "to-hello", "hello", { text: "Hello nobody" }],
    ...more("nobody"),
  ];
  return [alice, bob, nobody];
}

// Documents of these pages, and what `data` makes of them, for the isolation run.
export function everything(data, more = []) {
  const pages = ["/", "/lived", "/query?topic=a", "/query?topic=b", "/slash/", "/mislabelled", "/hello", "/login", "/notes", "/write", "/moved", "/nope"];
  return [...pages, ...pages.flatMap(data), ...more];
}

// What is rendered for each visitor, whatever its form is called: the pages that greet
// or have forms, and what says no lifetime, as `/` and redirects do.
export const DYNAMIC = /^\/((mislabelled|hello|login|write|moved|nope)\b|$|slash$|lived\/$)/;
