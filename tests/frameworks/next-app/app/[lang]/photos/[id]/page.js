export const generateStaticParams = () => [{ id: "1" }];

export default async function Photo({ params }) {
  const { id } = await params;
  return (
    <main>
      <h1 id="page">photo {id}</h1>
    </main>
  );
}
