/** Turns a job's `repo_url` into the URL for git, or reports why it is invalid. */

export interface GitSettings {
  /** `owner/name` is appended to it; may be `http://` and have a path. Its host is always allowed. */
  readonly baseUrl: string;
  /** `host` or `host:port` that a full `https://` URL may name. */
  readonly allowedHosts: readonly string[];
}

/** The message is meant for the submitter of the job. */
export class InvalidRepositoryUrl extends Error {
  override readonly name = "InvalidRepositoryUrl";
}

const MAX_URL_CHARS = 2000;
// Segments that begin with a letter, digit, dot or underscore: git reads a leading "-" as an option.
const SHORT_FORM = /^[A-Za-z0-9_.][A-Za-z0-9_.-]*(\/[A-Za-z0-9_.][A-Za-z0-9_.-]*)+$/;
const URL_PATH = /^\/[A-Za-z0-9._~/%+-]+$/;

function refuse(reason: string): never {
  throw new InvalidRepositoryUrl(`repo_url ${reason}`);
}

function checkSegments(path: string): void {
  for (const segment of path.split("/")) {
    const decoded = decodeSegment(segment);
    if (decoded === "." || decoded === "..") refuse("must not contain '.' or '..' as a part of its path");
    if (decoded.startsWith("-")) refuse("must not have a part that begins with '-'");
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused here
    if (/[\u0000-\u001f\u007f/\\]/.test(decoded))
      refuse("must not contain encoded control or separator characters");
  }
}

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return refuse("has a path with a broken percent-encoding");
  }
}

function withoutTrailingSlashes(text: string): string {
  return text.replace(/\/+$/, "");
}

function resolveFullUrl(repoUrl: string, git: GitSettings): string {
  // The text is checked before it is parsed: the parser silently removes "..", tabs and backslashes.
  const text = /^https:\/\/([^/?#\s]+)(\/[^?#]*)?(\?[^#]*)?(#.*)?$/i.exec(repoUrl);
  if (!text) refuse("must be 'owner/name' or an https:// URL");
  const [, authority = "", path = "", query, fragment] = text;
  if (authority.includes("@")) refuse("must not contain a user name or a password; use git_token");
  if (query !== undefined || fragment !== undefined) refuse("must not have a query or a fragment");
  if (!URL_PATH.test(path)) refuse("has no path, or one with characters that are not allowed");
  checkSegments(path);
  const url = parsed(repoUrl);
  const allowed = allowedHosts(git);
  if (!allowed.has(url.host)) {
    refuse(`names the host ${url.host}, which is not one of: ${[...allowed].join(", ")}`);
  }
  return withoutTrailingSlashes(`https://${url.host}${path}`);
}

function allowedHosts(git: GitSettings): ReadonlySet<string> {
  return new Set([...git.allowedHosts.map((host) => host.toLowerCase()), new URL(git.baseUrl).host]);
}

/** For the submodules, LFS servers and redirects of a repository. `http:` is allowed only for the base URL's origin. */
export function isAllowedUrl(text: string, git: GitSettings): boolean {
  const url = URL.parse(text);
  if (url?.username !== "" || url.password !== "") return false;
  if (url.protocol === "https:") return allowedHosts(git).has(url.host);
  return url.protocol === "http:" && url.origin === new URL(git.baseUrl).origin;
}

function parsed(repoUrl: string): URL {
  try {
    return new URL(repoUrl);
  } catch (cause) {
    throw new InvalidRepositoryUrl("repo_url is not a valid URL", { cause });
  }
}

/** The canonical URL: two spellings of one repository that resolve to the same text are the same repository. */
export function resolveRepositoryUrl(repoUrl: string, git: GitSettings): string {
  if (repoUrl.length > MAX_URL_CHARS) refuse(`is longer than ${MAX_URL_CHARS} characters`);
  if (repoUrl.includes("://")) return resolveFullUrl(repoUrl, git);
  if (!SHORT_FORM.test(repoUrl)) refuse("must be 'owner/name' or an https:// URL");
  checkSegments(repoUrl);
  return `${withoutTrailingSlashes(git.baseUrl)}/${repoUrl}`;
}
