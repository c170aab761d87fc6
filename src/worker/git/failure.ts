/** Maps the end of a git network command to the job's failure. */
import type { ErrorCode } from "../../shared/job.ts";
import { diskFull, StepFailure, saysDiskFull } from "../job/failure.ts";
import type { NetworkEnd } from "./command.ts";
import type { HttpExchange } from "./git-trace.ts";
import { type AnswerKind, describeAnswer, judge } from "./http-answer.ts";

export interface GitAttempt {
  readonly repositoryUrl: string;
  readonly branch: string;
  /** The user name that was sent with the token; undefined without a token. */
  readonly user: string | undefined;
  /** Why no token was sent, if none was. */
  readonly withoutToken: string;
  /** The commit that the command requests by its id. */
  readonly commit?: string;
}

interface Explanation {
  readonly code: ErrorCode;
  readonly retryable?: boolean;
  readonly explain: (attempt: GitAttempt) => string;
}

interface Kind extends Explanation {
  readonly pattern: RegExp;
}

/** Error messages of git (LC_ALL=C) about what it looked for in the repository. The first matching kind is used. */
const CONTENT_KINDS: readonly Kind[] = [
  {
    pattern: /Remote branch .* not found in upstream|couldn't find remote ref/,
    code: "REF_NOT_FOUND",
    explain: ({ branch, repositoryUrl }) =>
      `${repositoryUrl} has no branch or tag '${branch}' (an empty repository has none)`,
  },
  {
    pattern:
      /^error: object [0-9a-f]+ is a \w+, not a commit$|expected commit type, but the object dereferences/,
    code: "REF_NOT_FOUND",
    explain: ({ branch, repositoryUrl }) => `'${branch}' of ${repositoryUrl} does not name a commit`,
  },
];

/** Of curl, with GnuTLS or OpenSSL: the server's certificate. */
const CERTIFICATE =
  /: ((?:server certificate |SSL certificate problem|SSL: (?:no alternative )?certificate )[^\n]*)$/;
const AUTHORITIES = /: (error setting certificate|Problem with the SSL CA cert)/;
const NO_TLS = /An unexpected TLS packet was received|wrong version number|packet length too long/;

const ANSWER_KINDS: Readonly<Partial<Record<AnswerKind, Explanation>>> = {
  unauthenticated: {
    code: "GIT_AUTH",
    explain: ({ repositoryUrl, user, withoutToken }) =>
      user === undefined
        ? `${repositoryUrl} requires credentials: the repository is private or does not exist, and ${withoutToken}`
        : `${repositoryUrl} does not accept the git_token with the user name '${user}': check the token and its expiry, and BLACKTREE_GIT_USER`,
  },
  forbidden: {
    code: "GIT_AUTH",
    explain: ({ repositoryUrl, user, withoutToken }) =>
      user === undefined
        ? `${repositoryUrl} denies access: ${withoutToken}`
        : `${repositoryUrl} denies access with this git_token: check its repositories and permissions`,
  },
  missing: {
    code: "REPO_NOT_FOUND",
    explain: ({ repositoryUrl, user, withoutToken }) =>
      user === undefined
        ? `repository ${repositoryUrl} does not exist, or is private and ${withoutToken}`
        : `repository ${repositoryUrl} does not exist, or the git_token has no access to it`,
  },
};

/** For a file in the checkout git prints only this, without a reason. The reason is nearly always a full disk. */
const CANNOT_WRITE = /^error: unable to write file /;

export function isGitDiskFull(stderr: readonly string[]): boolean {
  return stderr.some((line) => saysDiskFull(line) || CANNOT_WRITE.test(line));
}

const SERVER_FAULT =
  /unable to access|RPC failed|early EOF|hung up unexpectedly|unexpected disconnect|expected (flush|packfile)|could not read (Username|Password)|Authentication failed|^fatal: repository '.*' not found/;

/** The server or the connection has failed; the local repository is intact. */
export function isServerFault({ stderrTail, silentForMs }: NetworkEnd): boolean {
  return silentForMs !== undefined || stderrTail.some((line) => SERVER_FAULT.test(line));
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

function objectFailure({ repositoryUrl }: GitAttempt, stderr: readonly string[]): StepFailure | undefined {
  const line = stderr.find((each) => BROKEN_OBJECT.test(each));
  if (line === undefined) return undefined;
  const problem = line.replace(/^(remote|error): /, "").trim();
  const message = `${repositoryUrl} has a broken object (${problem}): run git fsck on the server's repository`;
  return new StepFailure({ code: "CLONE_FAILED", step: "clone", message });
}

const SERVICE = "/info/refs?service=git-upload-pack";
const GIT_CONTENT = /^application\/x-git-upload-pack-advertisement\b/;
const WEB_PAGE = /^(text\/html|application\/xhtml)/;
/** A web page with git's content type: git reads the length of a packet from its start. */
const WEB_PAGE_LINE = /bad line length character: <(?:!|h|\?)/i;

export interface Redirect {
  /** For messages, without a query. */
  readonly target: string;
  /** When the redirect leads to a repository. */
  readonly repositoryUrl: string | undefined;
}

/** The redirect that a command to this URL has ended with. */
export function redirectOf(url: string, { exchanges }: Pick<NetworkEnd, "exchanges">): Redirect | undefined {
  const last = exchanges.at(-1);
  const location = last && judge(last).kind === "redirect" ? last.headers.get("location") : undefined;
  const target = location === undefined ? null : URL.parse(location, `${url}${SERVICE}`);
  if (!target) return undefined;
  const isRepository = last?.path.endsWith(SERVICE) && target.href.endsWith(SERVICE);
  return {
    target: `${target.origin}${target.pathname}`.replace(/\/info\/refs$/, ""),
    repositoryUrl: isRepository ? target.href.slice(0, -SERVICE.length) : undefined,
  };
}

export function gitFailure(attempt: GitAttempt, end: NetworkEnd): StepFailure {
  const { repositoryUrl } = attempt;
  const { stderrTail: stderr, silentForMs } = end;
  // "remote:" lines are text from the server: they are reported, but do not decide the kind of failure.
  const errors = stderr.filter((line) => /^(fatal|error): /.test(line));
  const reported = stderr.filter((line) => /^(fatal|error|remote): /.test(line));
  const details = (reported.length > 0 ? reported : stderr).slice(-4).join("; ");
  if (isGitDiskFull(errors)) return diskFull("clone", `no disk space left for git: ${details}`);
  if (silentForMs !== undefined) {
    const silence = `${silentForMs / 1000} s (BLACKTREE_GIT_SILENCE_TIMEOUT)`;
    return failed(`${repositoryUrl} sent nothing for ${silence}`, true);
  }
  if (errors.some((line) => OTHER_FORMAT.test(line))) return new ObjectFormatMismatch(attempt);
  if (errors.some((line) => isNotOffered(line, attempt.commit))) return notOffered(attempt);
  return (
    answerFailure(attempt, end.exchanges, errors) ??
    contentFailure(attempt, errors) ??
    connectionFailure(attempt, end, errors) ??
    objectFailure(attempt, stderr) ??
    failed(`failed to clone ${repositoryUrl}: ${details}`, true)
  );
}

function contentFailure(attempt: GitAttempt, errors: readonly string[]): StepFailure | undefined {
  const kind = CONTENT_KINDS.find(({ pattern }) => errors.some((line) => pattern.test(line)));
  return kind && explained(kind, attempt);
}

function explained({ code, retryable, explain }: Explanation, attempt: GitAttempt): StepFailure {
  return new StepFailure({ code, step: "clone", message: explain(attempt), retryable });
}

function answerFailure(
  attempt: GitAttempt,
  exchanges: readonly HttpExchange[],
  errors: readonly string[],
): StepFailure | undefined {
  // Git takes an answer that is not git's for an empty list of refs, and continues.
  const foreign = exchanges.find(isForeign);
  if (foreign || errors.some((line) => WEB_PAGE_LINE.test(line)))
    return failed(notGit(attempt, foreign, errors));
  const last = exchanges.at(-1);
  if (last === undefined) return undefined;
  const { kind, retryable, throttled } = judge(last);
  if (kind === "success") return undefined;
  if (last.method === "CONNECT" || last.status === 407) return refusedByProxy(attempt, last, retryable);
  if (kind === "redirect")
    return failed(redirectMessage(attempt, redirectOf(attempt.repositoryUrl, { exchanges })));
  const explanation = ANSWER_KINDS[kind];
  if (explanation) return explained(explanation, attempt);
  const message = `${attempt.repositoryUrl} ${describeAnswer(last)}`;
  return new StepFailure({ code: "CLONE_FAILED", step: "clone", message, retryable, throttled });
}

function isForeign({ status, path, headers }: HttpExchange): boolean {
  const type = headers.get("content-type") ?? "";
  if (status < 200 || status > 299) return false;
  return path.endsWith(SERVICE) ? !GIT_CONTENT.test(type) : WEB_PAGE.test(type);
}

function notGit(
  { repositoryUrl }: GitAttempt,
  foreign: HttpExchange | undefined,
  errors: readonly string[],
): string {
  if (errors.some((line) => line.startsWith("fatal: dumb http transport ")))
    return `${repositoryUrl} has only git's dumb HTTP protocol: serve it with the smart protocol, such as by git http-backend`;
  const type = foreign?.headers.get("content-type") ?? "";
  const [name = "data without a content type"] = /^[\w.+/-]{1,100}/.exec(type) ?? [];
  const answer = foreign === undefined || WEB_PAGE.test(type) ? "a web page" : name;
  return `${repositoryUrl} answered with ${answer}, not git: check that repo_url names a repository, and that no login page, proxy or maintenance page answers instead`;
}

function refusedByProxy({ repositoryUrl }: GitAttempt, last: HttpExchange, retryable: boolean): StepFailure {
  const what = `the proxy refuses connections to ${new URL(repositoryUrl).host} (HTTP ${last.status})`;
  const advice = last.status === 407 ? ": its URL needs a user name and a password" : "";
  return failed(`${what}${advice}; check HTTPS_PROXY and NO_PROXY of the worker`, retryable);
}

function redirectMessage({ repositoryUrl, user }: GitAttempt, redirect: Redirect | undefined): string {
  const where = redirect ? `redirects to ${redirect.target}` : "redirects to an invalid URL";
  const reason =
    user === undefined
      ? "which is not a repository on an allowed host, or redirects again and again"
      : "and a git_token is never sent to a redirect's target";
  return `${repositoryUrl} ${where}, ${reason}: set repo_url to the repository's final URL (it may end in .git)`;
}

/** The connection failed before an answer. */
function connectionFailure(
  { repositoryUrl }: GitAttempt,
  { unknownHost }: NetworkEnd,
  errors: readonly string[],
): StepFailure | undefined {
  const { host } = new URL(repositoryUrl);
  if (unknownHost !== undefined)
    return failed(`the host ${unknownHost} does not exist: check repo_url, and the DNS of the worker`);
  for (const line of errors) {
    const [, certificate] = CERTIFICATE.exec(line) ?? [];
    if (certificate !== undefined) return failed(certificateMessage(host, certificate));
    if (AUTHORITIES.test(line))
      return failed("the worker cannot read its certificate authorities: check GIT_SSL_CAINFO", true);
    if (NO_TLS.test(line)) return failed(`${host} does not use TLS on this port: check the port and https`);
  }
  return undefined;
}

function certificateMessage(host: string, reason: string): string {
  // With GnuTLS the reason ends with the file of the worker's certificate authorities.
  const short = reason.replace(/[. ]*CAfile: .*$/, "");
  return `the TLS certificate of ${host} is not valid: ${short}. It may have expired, be for another host, or be signed by an authority that the worker does not know (GIT_SSL_CAINFO)`;
}

function failed(message: string, retryable = false): StepFailure {
  return new StepFailure({ code: "CLONE_FAILED", step: "clone", message, retryable });
}
