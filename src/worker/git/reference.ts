/** What a job's `branch` names on the server. */

const COMMIT_ID = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/i;

/** Refs and ids in the order in which they are tried: git prefers a branch over a tag of the same name. */
export function candidatesOf(branch: string): readonly [string, ...string[]] {
  // A branch can be named like a commit's id. Git itself then takes the id, and `refs/heads/<id>` names the branch.
  if (COMMIT_ID.test(branch)) return [branch.toLowerCase()];
  if (branch.startsWith("refs/")) return [branch];
  return [`refs/heads/${branch}`, `refs/tags/${branch}`];
}

export function isCommitId(source: string): boolean {
  return COMMIT_ID.test(source);
}

/** A repository's ids have 40 hex digits (SHA-1) or 64 (SHA-256). */
export type ObjectFormat = "sha1" | "sha256";

export function formatOf(id: string): ObjectFormat {
  return id.length === 64 ? "sha256" : "sha1";
}
