import { Layout } from "../lib/layout";
import { render } from "../lib/render";

export async function getStaticProps({ locale }) {
  return { props: { rendered: render(`/${locale}`) }, revalidate: 2 };
}

export default function Home({ rendered }) {
  return <Layout name="home" rendered={rendered} />;
}
