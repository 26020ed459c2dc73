// What all pages look like.
export function Page({ name, rendered, children }) {
  return (
    <main>
      <title>{name}</title>
      <h1 id="page">{name}</h1>
      {children}
      <p id="rendered" data-varies="">
        {rendered}
      </p>
    </main>
  );
}

export const headers = ({ loaderHeaders }) => loaderHeaders;
