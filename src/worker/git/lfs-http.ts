/**
 * HTTP requests for Git LFS. The repository and its LFS server choose the URLs, so every host is checked, also those of
 * redirects, and the token is sent only to URLs below the job's own repository.
 */
import { orAbort } from "../../shared/abort.ts";
import { isAllowedUrl } from "../../shared/repository-url.ts";
import { StepFailure, type StepFailureDetails } from "../job/failure.ts";
import { type AnswerKind, describeAnswer, type HttpAnswer, judge } from "./http-answer.ts";
import { failed, quoted, reasonOf } from "./lfs-failure.ts";
import type { GitAccess } from "./remote.ts";
import { sendRequest } from "./request.ts";

export interface LfsContext {
  readonly access: GitAccess;
  /** The token is sent only to URLs below this repository's URL. */
  readonly own: { readonly repositoryUrl: string; readonly token: string | undefined };
  /** A folder of the run outside the checkout. */
  readonly aside: string;
}

export interface LfsRequest {
  readonly url: string;
  /** For messages. */
  readonly purpose: string;
  readonly method?: string;
  readonly headers: Headers;
  readonly body?: string;
  readonly signal: AbortSignal;
}

/** The last answer after redirects, and the URL that it is from. */
export interface LfsAnswer {
  readonly response: Response;
  readonly url: URL;
  /** The server got the job's token. */
  readonly hadToken: boolean;
}

/** Of the LFS API. */
const DENIALS: readonly AnswerKind[] = ["unauthenticated", "forbidden"];
const MAX_REDIRECTS = 5;
/** Headers that do not depend on the host, so redirects keep them. */
const KEPT_HEADERS = ["accept", "content-type", "range"];
const MAX_REASON_BYTES = 65_536;
const REASON_TIMEOUT_MS = 5000;
/** Insufficient Storage, and Bandwidth Limit Exceeded, which hosts use for an exhausted quota. */
const QUOTA_STATUSES: ReadonlySet<number> = new Set([507, 509]);
/** A host may answer 403 for an exhausted quota too. */
const RATE_REASON = /\brate limit/i;
const QUOTA_REASON = /\b(quota|budget|billing|bandwidth|limit|exceeded|data packs?)\b/i;

export class LfsHttp {
  readonly #context: LfsContext;

  constructor(context: LfsContext) {
    this.#context = context;
  }

  /** Returns the answer, whatever its status. */
  async send({ url, purpose, headers, ...request }: LfsRequest): Promise<LfsAnswer> {
    const { environment } = this.#context.access;
    let current = this.allowedUrl(url, purpose);
    const hadToken = this.#addToken(current, headers);
    let sent = headers;
    for (let followed = 0; followed <= MAX_REDIRECTS; followed++) {
      const options = { ...request, headers: Object.fromEntries(sent), environment };
      const response = await sendRequest(current.href, options).catch((error: unknown) => {
        request.signal.throwIfAborted();
        throw failed(`${purpose} failed: ${current.host}: ${reasonOf(error)}`, true, error);
      });
      const location = judge(response).kind === "redirect" ? response.headers.get("location") : null;
      if (location === null) return { response, url: current, hadToken: hadToken && followed === 0 };
      await response.body?.cancel();
      current = this.allowedUrl(URL.parse(location, current.href)?.href ?? "", purpose);
      sent = new Headers([...headers].filter(([name]) => KEPT_HEADERS.includes(name)));
    }
    throw failed(`${purpose} failed: ${current.host} redirects more than ${MAX_REDIRECTS} times`);
  }

  /** The failure that an answer other than 2xx means. */
  async refusal(
    { response, url, hadToken }: LfsAnswer,
    purpose: string,
    denials: readonly AnswerKind[] = DENIALS,
  ): Promise<StepFailure> {
    const reason = await statedReason(response);
    const meaning = refusalMeaning(response, reason, denials);
    const explained = reason === "" ? "" : `: ${reason}`;
    const message =
      meaning.code === "GIT_AUTH"
        ? `${url.host} denies access to the repository's Git LFS files (${response.status})${explained}${this.#aboutToken(hadToken)}`
        : `${purpose} failed: ${url.host} ${describeAnswer(response)}${explained}`;
    return new StepFailure({ ...meaning, step: "clone", message });
  }

  /** @throws StepFailure when this URL is not allowed. */
  allowedUrl(text: string, purpose: string): URL {
    const url = URL.parse(text);
    if (url && isAllowedUrl(text, this.#context.access.allowed)) return url;
    if (!url || !/^https?:$/.test(url.protocol))
      throw failed(`${purpose} failed: the Git LFS server names a URL that is not an http or https URL`);
    if (url.username !== "" || url.password !== "")
      throw failed(`${purpose} failed: a Git LFS URL at ${url.host} contains a user name or a password`);
    throw failed(`Git LFS uses ${url.origin}, which is not one of the hosts in BLACKTREE_GIT_ALLOWED_HOSTS`);
  }

  #aboutToken(hadToken: boolean): string {
    if (hadToken) return "";
    if (this.#context.own.token === undefined) return "; the job has no git_token";
    return "; the job's git_token is sent only to the job's own repository, not to this URL";
  }

  /** Returns whether the headers contain the token now. */
  #addToken(url: URL, headers: Headers): boolean {
    const { repositoryUrl, token } = this.#context.own;
    const own = repositoryUrl.replace(/\.git$/, "");
    const isOwn = [`${own}/`, `${own}.git/`].some((start) => url.href.startsWith(start));
    if (token === undefined || !isOwn || headers.has("authorization")) return false;
    headers.set("Authorization", `Basic ${Buffer.from(`x-access-token:${token}`).toString("base64")}`);
    return true;
  }
}

type Meaning = Pick<StepFailureDetails, "code" | "retryable" | "retryAfterMs">;

/** Of a refused request, or of one refused object. */
export function refusalMeaning(answer: HttpAnswer, reason: string, denials = DENIALS): Meaning {
  const { kind, retryable, retryAfterMs } = judge(answer);
  const isLimit = kind === "forbidden" && QUOTA_REASON.test(reason);
  return {
    code: denials.includes(kind) && !isLimit ? "GIT_AUTH" : "CLONE_FAILED",
    retryable: (retryable && !QUOTA_STATUSES.has(answer.status)) || (isLimit && RATE_REASON.test(reason)),
    retryAfterMs,
  };
}

/** At most this many bytes of an answer; undefined when it has more. */
export async function bodyOf(response: Response, maxBytes: number): Promise<string | undefined> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.byteLength;
    if (size > maxBytes) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** The message of an answer in JSON or XML, or a plain text; empty for a page in HTML. */
async function statedReason(response: Response): Promise<string> {
  const type = response.headers.get("content-type") ?? "";
  const text = await orAbort(
    bodyOf(response, MAX_REASON_BYTES),
    AbortSignal.timeout(REASON_TIMEOUT_MS),
  ).catch(() => undefined);
  await response.body?.cancel().catch(() => undefined);
  if (text === undefined) return "";
  if (/^text\/plain\b/i.test(type)) return quoted(text);
  // As the storage services write it.
  if (/[/+]xml\b/i.test(type)) return quoted(/<Message>([^<]*)</.exec(text)?.[1] ?? "");
  return /[/+]json\b/i.test(type) ? quoted(messageIn(text)) : "";
}

function messageIn(json: string): string {
  try {
    const { message } = JSON.parse(json) as { message?: unknown };
    return typeof message === "string" ? message : "";
  } catch {
    return "";
  }
}
