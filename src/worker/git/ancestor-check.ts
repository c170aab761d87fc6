import { mkdir } from "node:fs/promises";
import { StepFailure } from "../job/failure.ts";
import { formatOf } from "./reference.ts";
import type { GitRemote } from "./remote.ts";
import type { Tip } from "./working-copy.ts";

export interface AncestorQuery {
  readonly commit: string;
  readonly branch: string;
  readonly tip: Tip;
  readonly repositoryUrl: string;
  /** For the commits. */
  readonly folder: string;
}

/**
 * Errors for a commit that the clone does not have: from git itself, or from the helper that git starts to fetch the
 * missing commit, which is not allowed to reach the server.
 */
const MISSING_COMMIT = /Not a valid (commit|object) name|transport '\w+' not allowed/;

/**
 * Checks that the commit is in the history of the branch. Fetches commits without files; a server that does not support
 * filters sends everything.
 * @throws StepFailure REF_NOT_FOUND
 */
export async function checkAncestor(remote: GitRemote, query: AncestorQuery): Promise<void> {
  const { commit, tip, folder } = query;
  if (commit.length !== tip.commit.length) throw notInHistory(query, ": its id has another length");
  await mkdir(folder);
  await remote.git.localInGroup(["init", "--template=", `--object-format=${formatOf(commit)}`], folder);
  const args = (url: string) => ["fetch", "--quiet", "--no-tags", "--filter=tree:0", url, tip.source];
  await remote.run({ args, cwd: folder, gitFolder: `${folder}/.git` });
  // For the id of an annotated tag git prints the id of its commit, which differs: a tag's id is refused as a commit.
  const { exitCode, stdoutTail, stderrTail } = await remote.git.local(
    ["merge-base", commit, "FETCH_HEAD"],
    folder,
  );
  if (stdoutTail[0] === commit) return;
  const stderr = stderrTail.join("; ");
  if (exitCode > 1 && !MISSING_COMMIT.test(stderr)) {
    const failed = `git merge-base failed: ${stderr}`;
    throw new StepFailure({ code: "CLONE_FAILED", step: "clone", message: failed, retryable: true });
  }
  throw notInHistory(query);
}

function notInHistory({ commit, branch, repositoryUrl }: AncestorQuery, reason = ""): StepFailure {
  const message = `commit ${commit} is not in the history of '${branch}' of ${repositoryUrl}${reason}`;
  return new StepFailure({ code: "REF_NOT_FOUND", step: "clone", message });
}
