import { Layout } from "../../lib/layout";
import { render } from "../../lib/render";

export async function getStaticPaths() {
  return { paths: [{ params: { slug: "a" } }], fallback: "blocking" };
}

export async function getStaticProps({ params, locale }) {
  if (params.slug === "missing") return { notFound: true, revalidate: 60 };
  return { props: { rendered: render(`/${locale}/blog/${params.slug}`), slug: params.slug }, revalidate: 2 };
}

export default function Post({ rendered, slug }) {
  return <Layout name={`blog ${slug}`} rendered={rendered} />;
}
