import { Suspense } from "react";
import { connection } from "next/server";

const used = (globalThis.used ??= new Set());

// Works once.
async function Verdict({ params }) {
  const { token } = await params;
  await connection();
  const already = used.has(token);
  used.add(token);
  return <p id="verdict">{already ? "token already used" : "welcome"}</p>;
}

export default function Verify({ params }) {
  return (
    <main>
      <h1 id="page">verify</h1>
      <Suspense fallback={<p>one moment</p>}><Verdict params={params} /></Suspense>
    </main>
  );
}
