export default function Login() {
  return (
    <main>
      <h1 id="page">login</h1>
    </main>
  );
}
