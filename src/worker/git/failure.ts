import type { ErrorCode } from "../../shared/job.ts";
import { diskFull, StepFailure, saysDiskFull } from "../job/failure.ts";

export interface GitAttempt {
  readonly repositoryUrl: string;
  readonly branch: string;
  readonly withToken: boolean;
  /** The commit that the command requests by its id. */
  readonly commit?: string;
}

interface Kind {
  readonly pattern: RegExp;
  readonly code: ErrorCode;
  readonly explain: (attempt: GitAttempt) => string;
}

const REDIRECT = /returned error: 30[1278]/;

/** Error messages of git (LC_ALL=C). The first matching kind is used. */
const KINDS: readonly Kind[] = [
  {
    pattern: /Remote branch .* not found in upstream|couldn't find remote ref/,
    code: "REF_NOT_FOUND",
    explain: ({ branch, repositoryUrl }) => `${repositoryUrl} has no branch or tag '${branch}'`,
  },
  {
    pattern:
      /^error: object [0-9a-f]+ is a \w+, not a commit$|expected commit type, but the object dereferences/,
    code: "REF_NOT_FOUND",
    explain: ({ branch, repositoryUrl }) => `'${branch}' of ${repositoryUrl} does not name a commit`,
  },
  {
    pattern: /^fatal: repository '.*' not found/,
    code: "REPO_NOT_FOUND",
    explain: ({ repositoryUrl }) => `repository ${repositoryUrl} does not exist`,
  },
  {
    pattern: /could not read (Username|Password)|Authentication failed|returned error: 401/,
    code: "GIT_AUTH",
    explain: ({ repositoryUrl, withToken }) =>
      withToken
        ? `${repositoryUrl} does not accept the git_token`
        : `${repositoryUrl} requires credentials: the repository is private or does not exist, and the job has no git_token`,
  },
  {
    pattern: /returned error: 403/,
    code: "GIT_AUTH",
    explain: ({ repositoryUrl, withToken }) =>
      `${repositoryUrl} denies access${withToken ? " with this git_token" : ""}`,
  },
  {
    pattern: REDIRECT,
    code: "CLONE_FAILED",
    explain: ({ repositoryUrl, withToken }) =>
      withToken
        ? `${repositoryUrl} redirects, and a git_token is never sent to a redirect's target: set repo_url to the repository's final URL (it may end in .git)`
        : `${repositoryUrl} redirects, but not to a repository on an allowed host: set repo_url to the repository's final URL (it may end in .git)`,
  },
];

/** For a file in the checkout git prints only this, without a reason. The reason is nearly always a full disk. */
const CANNOT_WRITE = /^error: unable to write file /;

export function isGitDiskFull(stderr: readonly string[]): boolean {
  return stderr.some((line) => saysDiskFull(line) || CANNOT_WRITE.test(line));
}

export function isRedirect(stderr: readonly string[]): boolean {
  return stderr.some((line) => line.startsWith("fatal: ") && REDIRECT.test(line));
}

const SERVER_FAULT =
  /unable to access|RPC failed|early EOF|hung up unexpectedly|unexpected disconnect|expected (flush|packfile)/;

/** The server or the connection has failed; the local repository is intact. */
export function isServerFault(stderr: readonly string[]): boolean {
  return stderr.some((line) => SERVER_FAULT.test(line));
}

const OTHER_FORMAT = /^fatal: mismatched algorithms/;

/** The local repository and the server's use different hash functions. */
export class ObjectFormatMismatch extends StepFailure {
  constructor({ repositoryUrl, branch }: GitAttempt) {
    const message = `the ids of ${repositoryUrl} have another length than ${branch}: they are SHA-1 (40 hex digits) in one, and SHA-256 (64) in the other`;
    super({ code: "REF_NOT_FOUND", step: "clone", message });
  }
}

const NOT_OFFERED = /not our ref|not allow request for unadvertised object|want [0-9a-f]+ not valid/;

/** Of a commit that was requested by its id: for a branch the same error means that it moved during the fetch. */
function isNotOffered(line: string, commit: string | undefined): boolean {
  return commit !== undefined && line.includes(commit) && NOT_OFFERED.test(line);
}

function notOffered({ repositoryUrl, commit }: GitAttempt): StepFailure {
  const message = `${repositoryUrl} has no commit ${commit}, or does not offer it: push the commit to a branch or tag`;
  return new StepFailure({ code: "REF_NOT_FOUND", step: "clone", message });
}

/** The server's git finds an object missing or damaged, or has not sent one. Another try would have the same end. */
const BROKEN_OBJECT =
  /^remote: (?:fatal|error): .*(?:unable to read [0-9a-f]{40}|bad (?:tree |blob )?object|is corrupt|in tree entry|too-short tree)|^error: .* did not send all necessary objects$/;

function brokenObject({ repositoryUrl }: GitAttempt, line: string): StepFailure {
  const problem = line.replace(/^(remote|error): /, "").trim();
  const message = `${repositoryUrl} has a broken object (${problem}): run git fsck on the server's repository`;
  return new StepFailure({ code: "CLONE_FAILED", step: "clone", message });
}

/** Maps the error output of a git network command to the job's failure. */
export function gitFailure(attempt: GitAttempt, stderr: readonly string[]): StepFailure {
  // "remote:" lines are text from the server: they are reported, but do not decide the kind of failure.
  const errors = stderr.filter((line) => /^(fatal|error): /.test(line));
  const reported = stderr.filter((line) => /^(fatal|error|remote): /.test(line));
  const details = (reported.length > 0 ? reported : stderr).slice(-4).join("; ");
  if (isGitDiskFull(errors)) return diskFull("clone", `no disk space left for git: ${details}`);
  if (errors.some((line) => OTHER_FORMAT.test(line))) return new ObjectFormatMismatch(attempt);
  if (errors.some((line) => isNotOffered(line, attempt.commit))) return notOffered(attempt);
  const kind = KINDS.find(({ pattern }) => errors.some((line) => pattern.test(line)));
  if (kind) return new StepFailure({ code: kind.code, step: "clone", message: kind.explain(attempt) });
  const broken = stderr.find((line) => BROKEN_OBJECT.test(line));
  if (broken !== undefined) return brokenObject(attempt, broken);
  const message = `failed to clone ${attempt.repositoryUrl}: ${details}`;
  return new StepFailure({ code: "CLONE_FAILED", step: "clone", message, retryable: true });
}
