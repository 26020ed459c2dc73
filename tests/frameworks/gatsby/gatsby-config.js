module.exports = { siteMetadata: { title: `Perennial's Gatsby site, build ${process.env.GATSBY_BUILD}` }, trailingSlash: "always" };
