import { NextResponse } from "next/server";

const LANGUAGES = ["en", "de"];

// What libraries for languages do: the default one has no prefix, and is rewritten to.
// Beside it a login, and two variants of a page.
export function proxy(request) {
  const url = request.nextUrl.clone();
  const [, first] = url.pathname.split("/");
  const language = LANGUAGES.includes(first) ? first : undefined;
  const path = language ? url.pathname.slice(language.length + 1) || "/" : url.pathname;
  if (path.startsWith("/members") && !request.cookies.has("session")) {
    url.pathname = "/login";
    return NextResponse.redirect(url);
  }
  if (path === "/ab") {
    url.pathname = `/${language ?? "en"}/ab-${request.cookies.get("bucket")?.value === "b" ? "b" : "a"}`;
    return NextResponse.rewrite(url);
  }
  if (language) return NextResponse.next();
  url.pathname = `/en${url.pathname === "/" ? "" : url.pathname}`;
  return NextResponse.rewrite(url);
}

export const config = { matcher: ["/((?!_next|legacy|api|.*\\..*).*)"] };
