/** Invalid flags or files; the program ends with status 2. */
export class WrongUsage extends Error {
  override readonly name = "WrongUsage";
}
