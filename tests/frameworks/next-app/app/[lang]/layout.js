import { Suspense } from "react";
import { Links } from "../../lib/links";

export const generateStaticParams = () => [{ lang: "en" }, { lang: "de" }];

export default async function Layout({ children, modal, params }) {
  const { lang } = await params;
  return (
    <html lang={lang}>
      <body>
        {children}
        <Suspense>{modal}</Suspense>
        <Links lang={lang} />
      </body>
    </html>
  );
}
