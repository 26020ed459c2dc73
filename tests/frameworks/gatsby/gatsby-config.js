module.exports = { siteMetadata: { title: "Perennial's Gatsby site" }, trailingSlash: "always" };
