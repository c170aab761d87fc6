/** Files that `bun build` embeds; at run time each import is a path. */
declare module "*.binpb" {
  const path: string;
  export default path;
}
