import * as React from "react";

// At the end of every page, and shared by all pages of one build.
export default function Footer() {
  return <footer id="footer">footer of {process.env.GATSBY_BUILD}</footer>;
}
