const path = require("path");

// Ten deferred pages, each rendered when it is first asked for.
exports.createPages = ({ actions }) => {
  actions.createSlice({ id: "footer", component: path.resolve("src/slices/footer.js") });
  // A slug with a dot.
  actions.createPage({
    path: "/posts/node.js/",
    component: path.resolve("src/templates/deferred.js"),
    context: { n: "node.js" },
  });
  for (let n = 1; n <= 10; n += 1) {
    actions.createPage({
      path: `/deferred/${n}/`,
      component: path.resolve("src/templates/deferred.js"),
      context: { n },
      defer: true,
    });
  }
};
