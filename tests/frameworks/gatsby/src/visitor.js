// Who asks: the name in the cookie.
export function who(headers) {
  return /(?:^|; *)who=([\w-]+)/.exec(headers.get("cookie") ?? "")?.[1] ?? "nobody";
}
