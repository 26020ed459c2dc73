import { Suspense } from "react";
import { cookies } from "next/headers";
import { connectionId } from "../../../lib/data";

async function Visitor() {
  const name = (await cookies()).get("visitor")?.value ?? "nobody";
  return <p id="visitor">for {name}</p>;
}

// The same for all, but for one part.
export default async function Hole({ params }) {
  const { lang } = await params;
  return (
    <main>
      <h1 id="page">hole</h1>
      <p id="rendered" data-varies="">{await connectionId("hole", lang)}</p>
      <Suspense fallback={<p>one moment</p>}><Visitor /></Suspense>
    </main>
  );
}
