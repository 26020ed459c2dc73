export default function Variant() {
  return (
    <main>
      <h1 id="page">variant b</h1>
    </main>
  );
}
