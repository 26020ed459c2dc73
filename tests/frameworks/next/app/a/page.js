import { AppPage } from "../../lib/page";
import { render } from "../../lib/render";

export const revalidate = 2;

export default function A() {
  return <AppPage name="a" rendered={render("/a")} />;
}
