import { PagesLayout } from "../lib/layout";

// Neither props nor renders: exported once, at the build.
export default function Home() {
  return <PagesLayout name="home" rendered="at the build" />;
}
