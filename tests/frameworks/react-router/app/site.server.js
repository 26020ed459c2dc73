// What the site remembers: the notes that visitors left, and how often it rendered.
import { data } from "react-router";

export const notes = ["the first note"];

let renders = 0;
const rendered = () => `${process.pid}-${(renders += 1)}`;

export const nameOf = (request) => /(?:^|; )who=([^;]+)/.exec(request.headers.get("cookie") ?? "")?.[1] ?? "nobody";

export const lives = (shown) => data({ ...shown, rendered: rendered() }, { headers: { "cache-control": "public, s-maxage=600" } });

export const isPrivate = (shown) => data({ ...shown, rendered: rendered() }, { headers: { "cache-control": "private, no-store" } });
