import { draftMode } from "next/headers";

export async function GET(request) {
  const enable = new URL(request.url).searchParams.get("enable") === "1";
  const draft = await draftMode();
  if (enable) draft.enable();
  else draft.disable();
  return Response.json({ draft: enable });
}
