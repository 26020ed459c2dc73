// Once it takes clicks, the document says so.
export default defineNuxtPlugin((nuxt) => {
  for (const hook of ["app:suspense:resolve", "app:error"]) {
    nuxt.hook(hook, () => document.documentElement.setAttribute("data-ready", ""));
  }
});
