/** The findings of the checks about one job. */
export interface Counts {
  readonly succeeded: number;
  /** Jobs that had to fail, and did. */
  readonly failed: number;
  readonly cancelled: number;
  /** Used all its attempts, and each of them was hit by a fault. */
  readonly failedByFaults: number;
  readonly lost: number;
  readonly doubled: number;
  /** The identical result again: its confirmation was lost, or the message was sent again. */
  readonly repeated: number;
  /** Run again after Redis had lost its data. */
  readonly foundAgain: number;
  /** Jobs with more than one attempt. */
  readonly retried: number;
  /** Attempts that ended before the job did, each explained by a fault. */
  readonly explained: number;
  /** Attempts that ended early because the machine was too busy to answer pings. */
  readonly endedByMachine: number;
  readonly overlaps: number;
  readonly deadLetters: number;
}

export const NO_COUNTS: Counts = {
  succeeded: 0,
  failed: 0,
  cancelled: 0,
  failedByFaults: 0,
  lost: 0,
  doubled: 0,
  repeated: 0,
  foundAgain: 0,
  retried: 0,
  explained: 0,
  endedByMachine: 0,
  overlaps: 0,
  deadLetters: 0,
};

export type Finding = Partial<Counts> & { readonly problems: readonly { rule: string; what: string }[] };

export const NOTHING: Finding = { problems: [] };

export function findingOf(rule: string, whats: readonly string[]): Finding {
  return { problems: whats.map((what) => ({ rule, what })) };
}
