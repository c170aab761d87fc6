/** Nothing on this host can build for us. The message says what was looked at, and the remedy. */
export class NoUsableBuilder extends Error {
  override readonly name = "NoUsableBuilder";
}
