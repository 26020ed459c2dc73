import { connectionId } from "../../../../lib/data";

export const generateStaticParams = () => [{ page: "desk" }];

// For members only, and the same for all of them: the middleware looks who comes.
export default async function Members({ params }) {
  const { page, lang } = await params;
  return (
    <main>
      <h1 id="page">members {page}</h1>
      <p id="rendered" data-varies="">{await connectionId(`members ${page}`, lang)}</p>
      <p>the secret of all members</p>
    </main>
  );
}
