/** Which requests get a job's git_token, and with which user name. */

export const TOKEN_SCOPES = ["repository", "owner"] as const;
/** Which repositories a job's token is used for: the job's own, or all of its host and owner. */
export type TokenScope = (typeof TOKEN_SCOPES)[number];

export interface CredentialSettings {
  /** User names by `host` or `host:port`, in lower case. */
  readonly users: Readonly<Record<string, string>>;
  readonly tokenScope: TokenScope;
}

export const DEFAULT_CREDENTIAL_SETTINGS: CredentialSettings = { users: {}, tokenScope: "repository" };

/** As these hosts document it. GitHub expects the default. Others accept any name, or need a setting. */
const KNOWN_USERS: Readonly<Record<string, string>> = {
  "gitlab.com": "oauth2",
  "bitbucket.org": "x-token-auth",
};
const DEFAULT_USER = "x-access-token";

/** Without percent-encoding and empty parts: a server could read `a%2f..%2fb` as `b`. */
const PLAIN_PATH = /^(\/[A-Za-z0-9._~+@-]+)+$/;

export interface CredentialOptions {
  /** The job's repository. */
  readonly repositoryUrl: string;
  readonly token: string | undefined;
  readonly baseUrl: string;
  readonly settings: CredentialSettings;
}

export class JobCredentials {
  readonly #repositoryUrl: string;
  readonly #token: string | undefined;
  readonly #users: Readonly<Record<string, string>>;
  /** Ends with a slash; undefined when the token is for the job's repository alone. */
  readonly #ownerUrl: string | undefined;

  constructor({ repositoryUrl, token, baseUrl, settings }: CredentialOptions) {
    this.#repositoryUrl = withoutSuffix(repositoryUrl);
    this.#token = token;
    this.#users = { ...KNOWN_USERS, ...settings.users };
    this.#ownerUrl = settings.tokenScope === "owner" ? ownerUrl(repositoryUrl, baseUrl) : undefined;
  }

  /** The Authorization header for git's requests to a repository; undefined when it does not get the token. */
  forRepository(url: string): string | undefined {
    const isOwn = withoutSuffix(url) === this.#repositoryUrl;
    return isOwn || this.#isOfOwner(url) ? this.#header(url) : undefined;
  }

  /** The Authorization header for a request to a Git LFS server, which is below a repository's URL. */
  forLfs(url: string): string | undefined {
    const { origin, pathname } = new URL(url);
    const requested = `${origin}${pathname}`;
    const own = this.#repositoryUrl;
    const isBelowOwn = requested.startsWith(`${own}/`) || requested.startsWith(`${own}.git/`);
    const isOwn = isBelowOwn && PLAIN_PATH.test(requested.slice(own.length).replace(/^\.git/, ""));
    return isOwn || this.#isOfOwner(requested) ? this.#header(url) : undefined;
  }

  userFor(url: string): string {
    return this.#users[new URL(url).host] ?? DEFAULT_USER;
  }

  /** Why a request does not get the token, as the end of a message. */
  get absence(): string {
    if (this.#token === undefined) return "the job has no git_token";
    return this.#ownerUrl === undefined
      ? `the git_token is only used for ${this.#repositoryUrl} (BLACKTREE_GIT_TOKEN_SCOPE)`
      : `the git_token is only used for repositories of ${this.#ownerUrl}`;
  }

  #isOfOwner(url: string): boolean {
    const owner = this.#ownerUrl;
    if (owner === undefined || !isPlain(url)) return false;
    return url.startsWith(owner) && url.length > owner.length;
  }

  #header(url: string): string | undefined {
    if (this.#token === undefined) return undefined;
    return `Basic ${Buffer.from(`${this.userFor(url)}:${this.#token}`).toString("base64")}`;
  }
}

/** Hosts serve a repository under both names. */
export function withoutSuffix(url: string): string {
  return url.replace(/\.git$/, "");
}

/** It is what a URL parser makes of it, and no server can read another path in it. */
function isPlain(url: string): boolean {
  const parsed = URL.parse(url);
  return parsed !== null && url === `${parsed.origin}${parsed.pathname}` && PLAIN_PATH.test(parsed.pathname);
}

/** The first part of the path, after that of the base URL if the repository is below it. */
function ownerUrl(repositoryUrl: string, baseUrl: string): string | undefined {
  const base = new URL(baseUrl);
  const below = `${base.origin}${base.pathname.replace(/\/+$/, "")}/`;
  const start = repositoryUrl.startsWith(below) ? below : `${new URL(repositoryUrl).origin}/`;
  const [, owner] = /^([^/]+)\/[^/]/.exec(repositoryUrl.slice(start.length)) ?? [];
  return owner !== undefined && isPlain(repositoryUrl) ? `${start}${owner}/` : undefined;
}
