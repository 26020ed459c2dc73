import { connectionId } from "../../lib/data";

export default async function Home({ params }) {
  const { lang } = await params;
  return (
    <main>
      <h1 id="page">home {lang}</h1>
      <p id="rendered" data-varies="">{await connectionId("home", lang)}</p>
    </main>
  );
}
