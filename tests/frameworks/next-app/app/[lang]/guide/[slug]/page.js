import { connectionId } from "../../../../lib/data";

export const generateStaticParams = () => [{ slug: "a" }];

export default async function Guide({ params }) {
  const { lang, slug } = await params;
  return (
    <main>
      <h1 id="page">guide {slug} {lang}</h1>
      <p id="rendered" data-varies="">{await connectionId(`guide ${slug}`, lang)}</p>
    </main>
  );
}
