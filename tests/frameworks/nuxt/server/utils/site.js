// What the site remembers: the notes that visitors left, and how often it rendered.
export const notes = ["the first note"];

let renders = 0;
export const rendered = () => `${process.pid}-${(renders += 1)}`;

export const lives = (event) => setHeader(event, "cache-control", "public, s-maxage=600");

export const nameOf = (event) => getCookie(event, "who") ?? "nobody";
