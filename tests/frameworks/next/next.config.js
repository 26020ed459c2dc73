// The site is built twice, as two builds of one site: BUILD names the build, its
// folder, and what stands on the page that changed in between.
const build = process.env.BUILD ?? "one";

module.exports = {
  distDir: `.next-${build}`,
  generateBuildId: () => `build-${build}`,
  env: { BUILD: build },
  cacheHandler: require.resolve("./perennial-cache-handler.js"),
};
