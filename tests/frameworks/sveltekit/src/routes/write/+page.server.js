import { fail, redirect } from "@sveltejs/kit";
import { notes } from "$lib/server.js";

export const actions = {
  async save({ request }) {
    const note = (await request.formData()).get("note");
    if (!note) return fail(400, { missing: true });
    notes.push(note);
    redirect(303, "/notes");
  },
};
