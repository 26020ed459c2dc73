// The pages router with everything that changes its URLs at once.
module.exports = {
  basePath: "/docs",
  trailingSlash: true,
  i18n: { locales: ["en", "de", "cs"], defaultLocale: "en" },
  generateBuildId: () => "build-i18n",
};
