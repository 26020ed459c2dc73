"use client";
import Link from "next/link";
import { useEffect, useState } from "react";

const LINKS = [
  ["home", ""], ["guide-a", "/guide/a"], ["guide-b", "/guide/b"], ["notes", "/notes"], ["hole", "/hole"],
  ["photos", "/photos"], ["ab", "/ab"],
];

// Says that the page takes clicks.
export function Links({ lang }) {
  const [ready, setReady] = useState(false);
  useEffect(() => setReady(true), []);
  const base = lang === "en" ? "" : `/${lang}`;
  return (
    <nav data-ready={ready || undefined}>
      {LINKS.map(([name, path]) => (
        <Link key={name} id={`to-${name}`} href={`${base}${path}` || "/"}>{name}</Link>
      ))}
      <Link id="to-members" href={`${base}/members/desk`} prefetch={false}>members</Link>
      <Link id="to-de" href="/de" prefetch={false}>deutsch</Link>
      <Link id="to-en" href="/" prefetch={false}>english</Link>
    </nav>
  );
}
