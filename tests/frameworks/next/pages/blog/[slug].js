import { useRouter } from "next/router";
import { PagesLayout } from "../../lib/layout";
import { render } from "../../lib/render";

export async function getStaticPaths() {
  return { paths: [{ params: { slug: "one" } }], fallback: true };
}

export async function getStaticProps({ params, draftMode, preview }) {
  if (params.slug === "missing") return { notFound: true, revalidate: 60 };
  if (params.slug === "moved") {
    return { redirect: { destination: "/blog/one", permanent: false }, revalidate: 60 };
  }
  const draft = Boolean(draftMode || preview);
  return { props: { rendered: render(`/blog/${params.slug}`), slug: params.slug, draft }, revalidate: 600 };
}

export default function Post({ rendered, slug, draft }) {
  // Shown to people while the page is made; crawlers wait for the page.
  if (useRouter().isFallback) return <p id="shell">loading</p>;
  return (
    <PagesLayout name={`blog ${slug}`} rendered={rendered}>
      {draft ? <p id="draft">draft</p> : null}
    </PagesLayout>
  );
}
