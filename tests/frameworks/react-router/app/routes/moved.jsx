import { redirect } from "react-router";

export const loader = () => redirect("/lived", 307);
