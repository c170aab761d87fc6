import type { ErrorCode } from "../../shared/job.ts";
import { diskFull, StepFailure, saysDiskFull } from "../job/failure.ts";

export interface GitAttempt {
  readonly repositoryUrl: string;
  readonly branch: string;
  readonly withToken: boolean;
}

interface Kind {
  readonly pattern: RegExp;
  readonly code: ErrorCode;
  readonly explain: (attempt: GitAttempt) => string;
}

const REDIRECT = /returned error: 30[1278]/;

/** Git's own words (LC_ALL=C), the first that fits counts. */
const KINDS: readonly Kind[] = [
  {
    pattern: /Remote branch .* not found in upstream|couldn't find remote ref/,
    code: "REF_NOT_FOUND",
    explain: ({ branch, repositoryUrl }) => `${repositoryUrl} has no branch or tag '${branch}'`,
  },
  {
    pattern: /^error: object [0-9a-f]+ is a \w+, not a commit$/,
    code: "REF_NOT_FOUND",
    explain: ({ branch, repositoryUrl }) => `'${branch}' of ${repositoryUrl} does not name a commit`,
  },
  {
    pattern: /^fatal: repository '.*' not found/,
    code: "REPO_NOT_FOUND",
    explain: ({ repositoryUrl }) => `there is no repository at ${repositoryUrl}`,
  },
  {
    pattern: /could not read (Username|Password)|Authentication failed|returned error: 401/,
    code: "GIT_AUTH",
    explain: ({ repositoryUrl, withToken }) =>
      withToken
        ? `${repositoryUrl} does not accept the git_token`
        : `${repositoryUrl} asks for credentials: the repository is private or does not exist, and the job has no git_token`,
  },
  {
    pattern: /returned error: 403/,
    code: "GIT_AUTH",
    explain: ({ repositoryUrl, withToken }) =>
      `${repositoryUrl} refuses access${withToken ? " with this git_token" : ""}`,
  },
  {
    pattern: REDIRECT,
    code: "CLONE_FAILED",
    explain: ({ repositoryUrl, withToken }) =>
      withToken
        ? `${repositoryUrl} redirects elsewhere, and a git_token is never sent along a redirect: give the repository's final URL in repo_url (it may end in .git)`
        : `${repositoryUrl} redirects to no repository on an allowed host: give the repository's final URL in repo_url (it may end in .git)`,
  },
];

/** Of a file in the checkout git says only this, whatever the reason; there is hardly another one. */
const CANNOT_WRITE = /^error: unable to write file /;

export function isGitDiskFull(stderr: readonly string[]): boolean {
  return stderr.some((line) => saysDiskFull(line) || CANNOT_WRITE.test(line));
}

export function isRedirect(stderr: readonly string[]): boolean {
  return stderr.some((line) => line.startsWith("fatal: ") && REDIRECT.test(line));
}

const SERVER_FAULT =
  /unable to access|RPC failed|early EOF|hung up unexpectedly|unexpected disconnect|expected (flush|packfile)/;

/** Not a fault of what is here already. */
export function isServerFault(stderr: readonly string[]): boolean {
  return stderr.some((line) => SERVER_FAULT.test(line));
}

/** What a failing network command of git means for the job. */
export function gitFailure(attempt: GitAttempt, stderr: readonly string[]): StepFailure {
  // "remote:" lines are the server's words: told on, but not judged by.
  const errors = stderr.filter((line) => /^(fatal|error): /.test(line));
  const told = stderr.filter((line) => /^(fatal|error|remote): /.test(line));
  const words = (told.length > 0 ? told : stderr).slice(-4).join("; ");
  if (isGitDiskFull(errors)) return diskFull("clone", `git has no space left: ${words}`);
  const kind = KINDS.find(({ pattern }) => errors.some((line) => pattern.test(line)));
  if (kind) return new StepFailure({ code: kind.code, step: "clone", message: kind.explain(attempt) });
  const message = `${attempt.repositoryUrl} cannot be cloned: ${words}`;
  return new StepFailure({ code: "CLONE_FAILED", step: "clone", message, retryable: true });
}
