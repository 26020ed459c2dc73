export function AppPage({ name, rendered, children }) {
  return (
    <main>
      <h1 id="page">{name}</h1>
      <p id="rendered">{rendered}</p>
      <p id="build">{process.env.BUILD}</p>
      {children}
    </main>
  );
}
