import { Page } from "../page.jsx";

export default function Home() {
  return <Page name="home">Made when the site was built.</Page>;
}
