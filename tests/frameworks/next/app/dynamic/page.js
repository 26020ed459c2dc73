import { cookies } from "next/headers";
import { AppPage } from "../../lib/page";
import { render } from "../../lib/render";

export default async function Dynamic() {
  const visitor = (await cookies()).get("visitor")?.value ?? "nobody";
  return (
    <AppPage name="dynamic" rendered={render("/dynamic")}>
      <p id="visitor">{visitor}</p>
    </AppPage>
  );
}
