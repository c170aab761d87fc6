/** The measured cases: Blacktree in each case, and the plain script in the situation that it is compared with. */
export const SCRIPT_CASES = ["cold", "changed", "unchanged"] as const;
export type ScriptCase = (typeof SCRIPT_CASES)[number];

export interface BuildCase {
  readonly name: string;
  readonly meaning: string;
  /** The situation whose script time is the divisor of the ratio. */
  readonly against: ScriptCase;
  /** Upper bound for the ratio of the medians. */
  readonly targetRatio?: number;
  /** Only where workers share a cache in the registry. */
  readonly isOnSecondWorker?: boolean;
}

export const CASES = [
  {
    name: "cold",
    meaning: "a repository never seen before; empty engine, empty registry",
    against: "cold",
    targetRatio: 1,
  },
  {
    name: "changed",
    meaning: "one source file has changed since the last build",
    against: "changed",
    targetRatio: 0.6,
  },
  {
    name: "rebuilt",
    meaning: "same commit, new version, without `reuse`: built again, all steps cached",
    against: "unchanged",
  },
  {
    name: "unchanged",
    meaning: "same commit, new version, with `reuse: same-commit`",
    against: "unchanged",
    targetRatio: 0.2,
  },
  {
    name: "again",
    meaning: "same commit, the same version once more",
    against: "unchanged",
    targetRatio: 0.2,
  },
  {
    name: "second-worker",
    meaning: "first build on another worker with an empty engine and the registry cache; same commit",
    against: "cold",
    targetRatio: 0.5,
    isOnSecondWorker: true,
  },
  {
    name: "second-worker-changed",
    meaning: "the same, and one source file has changed since the cache was written",
    against: "cold",
    targetRatio: 0.5,
    isOnSecondWorker: true,
  },
] as const satisfies readonly BuildCase[];

export type CaseName = (typeof CASES)[number]["name"];
