import { PagesLayout } from "../lib/layout";
import { render } from "../lib/render";

export async function getStaticProps() {
  return { props: { rendered: render("/static") } };
}

export default function Static({ rendered }) {
  return <PagesLayout name="static" rendered={rendered} />;
}
