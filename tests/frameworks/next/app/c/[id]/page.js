import { AppPage } from "../../../lib/page";
import { render } from "../../../lib/render";

export const revalidate = 3600;

export function generateStaticParams() {
  return [{ id: "1" }];
}

export default async function C({ params }) {
  const { id } = await params;
  return <AppPage name={`c ${id}`} rendered={render(`/c/${id}`)} />;
}
