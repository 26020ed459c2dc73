// Stands in for sharp, which downloads a binary when it is installed: this site
// has no images to resize.
const nothing = () => {
  throw new Error("this site resizes no images");
};
module.exports = Object.assign(nothing, {
  simd: () => false,
  cache: () => ({}),
  concurrency: () => 1,
  format: {},
  versions: {},
});
