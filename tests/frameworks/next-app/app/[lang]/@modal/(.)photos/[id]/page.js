export const generateStaticParams = () => [{ id: "1" }];

// Seen in place of the page where a link leads to it.
export default async function Modal({ params }) {
  const { id } = await params;
  return <dialog open><p id="modal">photo {id} in a dialog</p></dialog>;
}
