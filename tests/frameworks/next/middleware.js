import { NextResponse } from "next/server";

export const config = { matcher: "/cookie/:path*" };

export function middleware() {
  const response = NextResponse.next();
  response.cookies.set("seen", String(Date.now()));
  return response;
}
