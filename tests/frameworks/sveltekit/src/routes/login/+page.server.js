import { redirect } from "@sveltejs/kit";

export const actions = {
  async default({ cookies, request }) {
    const form = await request.formData();
    cookies.set("who", form.get("name"), { path: "/", secure: false });
    redirect(303, "/hello");
  },
};
