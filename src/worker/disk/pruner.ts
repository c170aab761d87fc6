/** Something that makes jobs faster, but can be given up for room. */
export interface Pruner {
  /** For the log, such as "the build cache". */
  readonly what: string;
  /** Where it lies: giving it up makes room on the disks of these folders. */
  readonly paths: readonly string[];
  /** Takes away what was not used for longest, until no more than this is left; what is in use stays. */
  shrinkTo(keepBytes: number, signal: AbortSignal): Promise<void>;
}
