import { dirname } from "node:path";
import { StepFailure } from "../job/failure.ts";
import type { GitRemote } from "./remote.ts";
import { cloneArguments } from "./working-copy.ts";

export interface AncestorQuery {
  readonly commit: string;
  readonly branch: string;
  readonly repositoryUrl: string;
  /** Where the commits may be put. */
  readonly folder: string;
}

/**
 * Git's words for a commit that it does not have: its own, or, when it dies of its helper's end first, those of the helper
 * that may not go and ask the server for it.
 */
const MISSING_COMMIT = /Not a valid (commit|object) name|transport '\w+' not allowed/;

/**
 * Fetches commits without their files where the server can; one that cannot sends all, which is as good.
 * @throws StepFailure REF_NOT_FOUND
 */
export async function checkAncestor(remote: GitRemote, question: AncestorQuery): Promise<void> {
  const { commit, branch, repositoryUrl, folder } = question;
  const args = (url: string) => [
    "clone",
    "--bare",
    "--filter=tree:0",
    ...cloneArguments(branch, url, folder),
  ];
  await remote.run({ args, cwd: dirname(folder), gitFolder: folder, into: folder });
  // Prints the commit of an annotated tag, so the id of a tag does not pass for one of a commit.
  const { exitCode, stdoutTail, stderrTail } = await remote.git.local(["merge-base", commit, "HEAD"], folder);
  if (stdoutTail[0] === commit) return;
  const words = stderrTail.join("; ");
  if (exitCode > 1 && !MISSING_COMMIT.test(words)) throw new Error(`git merge-base failed: ${words}`);
  const message = `commit ${commit} is not in the history of '${branch}' of ${repositoryUrl}`;
  throw new StepFailure({ code: "REF_NOT_FOUND", step: "clone", message });
}
