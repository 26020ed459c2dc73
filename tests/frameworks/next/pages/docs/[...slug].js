import { PagesLayout } from "../../lib/layout";
import { render } from "../../lib/render";

export async function getStaticPaths() {
  return { paths: [], fallback: "blocking" };
}

export async function getStaticProps({ params }) {
  const slug = params.slug.join("/");
  return { props: { rendered: render(`/docs/${slug}`), slug }, revalidate: 600 };
}

export default function Doc({ rendered, slug }) {
  return <PagesLayout name={`docs ${slug}`} rendered={rendered} />;
}
