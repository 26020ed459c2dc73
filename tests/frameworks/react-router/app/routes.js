import { index, route } from "@react-router/dev/routes";

const pages = ["lived", "query", "slash", "mislabelled", "hello", "login", "notes", "write", "moved"];

export default [index("routes/home.jsx"), ...pages.map((page) => route(page, `routes/${page}.jsx`))];
