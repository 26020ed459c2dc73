import { PagesLayout } from "../lib/layout";
import { render } from "../lib/render";

export async function getStaticProps() {
  return { props: { rendered: render("/isr") }, revalidate: 2 };
}

export default function Isr({ rendered }) {
  return <PagesLayout name="isr" rendered={rendered} />;
}
