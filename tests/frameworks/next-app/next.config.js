// The app router with cached components: pages of which a part is rendered for each visitor.
// The cache handler is not installed: what Perennial knows, it knows from answers.
module.exports = {
  cacheComponents: true,
  generateBuildId: () => "build-app",
  // An older site behind this one; where it is, the suite writes into what was built.
  rewrites: () => [{ source: "/legacy/:path*", destination: "http://legacy.invalid/:path*" }],
};
