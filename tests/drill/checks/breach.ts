/** A broken promise, with the evidence for finding its cause. */
export interface Breach {
  readonly rule: string;
  readonly what: string;
  readonly evidence: readonly string[];
}
