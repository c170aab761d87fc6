/** Scripts that Redis runs; `bun build` embeds their text. */
declare module "*.lua" {
  const text: string;
  export default text;
}
