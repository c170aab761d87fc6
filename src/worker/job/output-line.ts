/** One line of a run's output, before its secrets are masked. */
export interface OutputLine {
  /**
   * The text of one stream is searched for secrets across its lines, such as `#12` for the output of one build step.
   * Empty for messages of Blacktree, git and docker.
   */
  readonly stream: string;
  /** Printed before the text, such as `#12 3.456 `. Never holds part of a secret. */
  readonly prefix: string;
  /** May hold line breaks. */
  readonly text: string;
}

/** A message that belongs to no build step. */
export function messageLine(text: string): OutputLine {
  return { stream: "", prefix: "", text };
}
