import { PagesLayout } from "../../lib/layout";
import { render } from "../../lib/render";

// Static in itself, but middleware gives its visitors a cookie.
export async function getStaticProps() {
  return { props: { rendered: render("/cookie/isr") }, revalidate: 600 };
}

export default function Cookie({ rendered }) {
  return <PagesLayout name="cookie" rendered={rendered} />;
}
