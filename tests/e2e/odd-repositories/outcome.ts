import type { ErrorCode } from "../../../src/shared/job.ts";

/** How one of the two has ended for an input. */
export type Outcome =
  | { readonly end: "built"; readonly image: readonly string[]; readonly log: readonly string[] }
  | {
      readonly end: "failed";
      /** Of Blacktree's results. */
      readonly code?: ErrorCode;
      readonly message: string;
      readonly log: readonly string[];
    };

const MAX_MESSAGE_CHARS = 300;
const MAX_DIFFERENCES = 30;

export function describeOutcome(outcome: Outcome): string {
  if (outcome.end === "built") return `built an image (${outcome.image.length} lines)`;
  const text = `failed${outcome.code ? ` with ${outcome.code}` : ""}: ${outcome.message}`;
  return text.replaceAll("\n", " / ").slice(0, MAX_MESSAGE_CHARS);
}

/** Lines that only one of the two images has; empty for equal images. */
export function differencesOf(reference: readonly string[], blacktree: readonly string[]): string[] {
  const [ofReference, ofBlacktree] = [new Set(reference), new Set(blacktree)];
  const all = [
    ...reference.filter((line) => !ofBlacktree.has(line)).map((line) => `only the reference: ${line}`),
    ...blacktree.filter((line) => !ofReference.has(line)).map((line) => `only Blacktree:     ${line}`),
  ];
  if (all.length <= MAX_DIFFERENCES) return all;
  return [...all.slice(0, MAX_DIFFERENCES), `and ${all.length - MAX_DIFFERENCES} more`];
}
