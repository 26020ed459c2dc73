import { unstable_cache } from "next/cache";
import { AppPage } from "../../lib/page";
import { render } from "../../lib/render";

const posts = unstable_cache(async () => `posts of ${Date.now()}`, ["posts"], { tags: ["posts"] });

export default async function B() {
  const text = await posts();
  return (
    <AppPage name="b" rendered={render("/b")}>
      <p id="posts">{text}</p>
    </AppPage>
  );
}
