/** How much of a repository's history the .git of its checkout contains. */
export interface History {
  /** Number of commits from the checked out one on; 0 for all. */
  readonly depth: number;
  /** With the tags of these commits. */
  readonly tags: boolean;
}

export const ONE_COMMIT: History = { depth: 1, tags: false };

/** Git's number for all commits; `--unshallow` is an error in a repository that has all of them. */
const ALL = 2 ** 31 - 1;

export function depthOption({ depth }: History): string {
  return `--depth=${depth === 0 ? ALL : depth}`;
}

export function isSameHistory(one: History, other: History): boolean {
  return one.depth === other.depth && one.tags === other.tags;
}
