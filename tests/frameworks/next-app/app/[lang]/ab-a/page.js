export default function Variant() {
  return (
    <main>
      <h1 id="page">variant a</h1>
    </main>
  );
}
