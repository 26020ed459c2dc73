// What the site remembers: the notes that visitors left, and how often it rendered.
export const notes = ["the first note"];

let renders = 0;
export const render = () => `${process.pid}-${(renders += 1)}`;

export const LIVES = "public, s-maxage=600";

export const nameOf = (cookies) => cookies.get("who")?.value ?? "nobody";
