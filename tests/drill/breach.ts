/** A promise that was not kept, with what is needed to find out why. */
export interface Breach {
  readonly rule: string;
  readonly what: string;
  readonly evidence: readonly string[];
}
