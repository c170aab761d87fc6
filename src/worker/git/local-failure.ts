import { diskFull, StepFailure, type StepFailureDetails } from "../job/failure.ts";
import { isGitDiskFull } from "./failure.ts";

/** A local command has failed. With a cached checkout, damaged files can be the cause. */
export class LocalGitFailure extends StepFailure {
  constructor(details: Pick<StepFailureDetails, "message" | "retryable">) {
    super({ code: "CLONE_FAILED", step: "clone", ...details });
  }
}

interface Kind {
  readonly pattern: RegExp;
  readonly explain: (found: string) => string;
}

/** Errors that the contents of a commit cause, with every attempt. The first group is the path or object. */
const KINDS: readonly Kind[] = [
  {
    pattern: /^error: invalid path '(.*)'$/,
    explain: (path) => `git allows no path '${path}' in a checkout: rename or remove it in the repository`,
  },
  {
    pattern: /^error: (?:failed to open file|unable to create (?:file|symlink)) (.*): File name too long$/,
    explain: (path) =>
      `a name or the target of the link is too long for Linux: shorten ${path} in the repository`,
  },
  {
    pattern: /^error: unable to create symlink (.*): No such file or directory$/,
    explain: (path) => `the symbolic link ${path} has no target: correct it in the repository`,
  },
  {
    pattern: /^error: (cannot read object [0-9a-f]+ '.*')$/,
    explain: (problem) => `the repository has a broken object (${problem}): run git fsck on it`,
  },
];

export function localFailure(command: string, stderr: readonly string[]): StepFailure {
  const message = `git ${command} failed: ${stderr.join("; ")}`;
  if (isGitDiskFull(stderr)) return diskFull("clone", message);
  for (const { pattern, explain } of KINDS) {
    const [found] = stderr.flatMap((line) => pattern.exec(line)?.[1] ?? []);
    if (found !== undefined) return new LocalGitFailure({ message: explain(found) });
  }
  return new LocalGitFailure({ message, retryable: true });
}
