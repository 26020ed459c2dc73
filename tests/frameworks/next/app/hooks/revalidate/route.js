import { revalidatePath, revalidateTag } from "next/cache";

export async function GET(request) {
  const { searchParams } = new URL(request.url);
  const [path, tag, profile] = ["path", "tag", "profile"].map((name) => searchParams.get(name));
  if (path) revalidatePath(path);
  if (tag) revalidateTag(tag, profile ?? { expire: 0 });
  return Response.json({ path, tag });
}
