import { dirname } from "node:path";
import { StepFailure } from "../job/failure.ts";
import type { GitRemote } from "./remote.ts";
import { cloneArguments } from "./working-copy.ts";

export interface AncestorQuery {
  readonly commit: string;
  readonly branch: string;
  readonly repositoryUrl: string;
  /** For a bare clone of the commits. */
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
  const { commit, branch, repositoryUrl, folder } = query;
  const args = (url: string) => [
    "clone",
    "--bare",
    "--filter=tree:0",
    ...cloneArguments(branch, url, folder),
  ];
  await remote.run({ args, cwd: dirname(folder), gitFolder: folder, into: folder });
  // For the id of an annotated tag git prints the id of its commit, which differs: a tag's id is refused as a commit.
  const { exitCode, stdoutTail, stderrTail } = await remote.git.local(
    ["--git-dir=.", "merge-base", commit, "HEAD"],
    folder,
  );
  if (stdoutTail[0] === commit) return;
  const stderr = stderrTail.join("; ");
  if (exitCode > 1 && !MISSING_COMMIT.test(stderr)) {
    const failed = `git merge-base failed: ${stderr}`;
    throw new StepFailure({ code: "CLONE_FAILED", step: "clone", message: failed, retryable: true });
  }
  const message = `commit ${commit} is not in the history of '${branch}' of ${repositoryUrl}`;
  throw new StepFailure({ code: "REF_NOT_FOUND", step: "clone", message });
}
