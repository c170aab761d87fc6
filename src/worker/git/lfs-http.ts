/**
 * HTTP requests for Git LFS. The repository and its LFS server choose the URLs, so every host is checked, also those of
 * redirects, and the token is sent only to URLs below the job's own repository.
 */
import { isAllowedUrl } from "../../shared/repository-url.ts";
import { StepFailure, type StepFailureDetails } from "../job/failure.ts";
import { type AnswerKind, describeAnswer, type HttpAnswer, judge } from "./http-answer.ts";
import { failed, quoted, reasonOf } from "./lfs-failure.ts";
import type { GitAccess } from "./remote.ts";
import { type HttpRequest, sendRequest } from "./request.ts";

export interface LfsContext {
  readonly access: GitAccess;
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
export interface LfsAnswer extends Pick<LfsRequest, "purpose" | "signal"> {
  readonly response: Response;
  readonly url: URL;
  readonly hadAuthorization: boolean;
}

/** Of the LFS API. */
const DENIALS: readonly AnswerKind[] = ["unauthenticated", "forbidden"];
const MAX_REDIRECTS = 5;
/** Headers that do not depend on the host, so redirects keep them. */
const KEPT_HEADERS = ["accept", "content-type", "range"];
/** Of certificates, TLS and the DNS: the next request would fail in the same way. */
const LASTING_FAULT = /CERT|UNABLE_TO_|^EPROTO$|^ENOTFOUND$/;
const MAX_REASON_BYTES = 65_536;
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
    const asked = { purpose, signal: request.signal };
    let current = this.allowedUrl(url, purpose);
    this.#addToken(current, headers);
    let sent = headers;
    for (let followed = 0; followed <= MAX_REDIRECTS; followed++) {
      const options = { ...request, headers: Object.fromEntries(sent), environment };
      const response = await this.#answer(current, options, purpose);
      const location = judge(response).kind === "redirect" ? response.headers.get("location") : null;
      if (location === null)
        return { ...asked, response, url: current, hadAuthorization: sent.has("authorization") };
      await response.body?.cancel();
      current = this.allowedUrl(URL.parse(location, current.href)?.href ?? "", purpose);
      sent = new Headers([...headers].filter(([name]) => KEPT_HEADERS.includes(name)));
    }
    throw failed(`${purpose} failed: ${current.host} redirects more than ${MAX_REDIRECTS} times`);
  }

  async #answer(url: URL, request: HttpRequest, purpose: string): Promise<Response> {
    const { silenceTimeoutMs } = this.#context.access.budget;
    const silent = new AbortController();
    const timer = setTimeout(() => silent.abort(), silenceTimeoutMs);
    const signal = AbortSignal.any([request.signal, silent.signal]);
    try {
      return await sendRequest(url.href, { ...request, signal });
    } catch (error) {
      request.signal.throwIfAborted();
      const reason = silent.signal.aborted ? `no answer for ${silenceTimeoutMs / 1000} s` : reasonOf(error);
      const mayPass = silent.signal.aborted || !LASTING_FAULT.test(reason);
      throw failed(`${purpose} failed: ${url.host}: ${reason}`, mayPass, error);
    } finally {
      clearTimeout(timer);
    }
  }

  /** The content of an answer. @throws StepFailure when the connection breaks or the server is silent. */
  async *chunksOf({ response, url, purpose, signal }: LfsAnswer): AsyncGenerator<Uint8Array> {
    const { silenceTimeoutMs } = this.#context.access.budget;
    const reader = response.body?.getReader();
    if (!reader) return;
    let isSilent = false;
    const onSilence = () => {
      isSilent = true;
      void reader.cancel();
    };
    const next = async () => {
      const timer = setTimeout(onSilence, silenceTimeoutMs);
      try {
        const { done, value } = await reader.read();
        if (isSilent)
          throw failed(`${purpose} failed: ${url.host} was silent for ${silenceTimeoutMs / 1000} s`, true);
        return done ? undefined : value;
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof StepFailure) throw error;
        throw failed(`${purpose} failed: ${url.host} broke it off: ${reasonOf(error)}`, true, error);
      } finally {
        clearTimeout(timer);
      }
    };
    try {
      for (let chunk = await next(); chunk; chunk = await next()) yield chunk;
    } finally {
      void reader.cancel().catch(() => undefined);
    }
  }

  /** The failure that an answer other than 2xx means. */
  async refusal(answer: LfsAnswer, denials: readonly AnswerKind[] = DENIALS): Promise<StepFailure> {
    const { response, url, purpose, hadAuthorization } = answer;
    const reason = await this.#statedReason(answer);
    const meaning = refusalMeaning(response, reason, denials);
    const explained = reason === "" ? "" : `: ${reason}`;
    const missing = hadAuthorization ? "" : `; ${this.#context.access.credentials.absence}`;
    const message =
      meaning.code === "GIT_AUTH"
        ? `${url.host} denies access to the repository's Git LFS files (${response.status})${explained}${missing}`
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

  /** The message of an answer in JSON or XML, or a plain text; empty for a page in HTML. */
  async #statedReason(answer: LfsAnswer): Promise<string> {
    const type = answer.response.headers.get("content-type") ?? "";
    const bytes = await bytesOf(this.chunksOf(answer), MAX_REASON_BYTES).catch(() => undefined);
    answer.signal.throwIfAborted();
    const text = bytes?.toString("utf8") ?? "";
    if (/^text\/plain\b/i.test(type)) return quoted(text);
    // As the storage services write it.
    if (/[/+]xml\b/i.test(type)) return quoted(/<Message>([^<]*)</.exec(text)?.[1] ?? "");
    return /[/+]json\b/i.test(type) ? quoted(messageIn(text)) : "";
  }

  #addToken(url: URL, headers: Headers): void {
    const authorization = this.#context.access.credentials.forLfs(url.href);
    if (authorization !== undefined && !headers.has("authorization"))
      headers.set("Authorization", authorization);
  }
}

type Meaning = Pick<StepFailureDetails, "code" | "retryable" | "throttled">;

/** Of a refused request, or of one refused object. */
export function refusalMeaning(answer: HttpAnswer, reason: string, denials = DENIALS): Meaning {
  const { kind, retryable, throttled } = judge(answer);
  const isLimit = kind === "forbidden" && QUOTA_REASON.test(reason);
  return {
    code: denials.includes(kind) && !isLimit ? "GIT_AUTH" : "CLONE_FAILED",
    retryable: (retryable && !QUOTA_STATUSES.has(answer.status)) || (isLimit && RATE_REASON.test(reason)),
    throttled,
  };
}

/** At most this many bytes; undefined when there are more. */
export async function bytesOf(
  chunks: AsyncIterable<Uint8Array>,
  maxBytes: number,
): Promise<Buffer | undefined> {
  const kept: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    size += chunk.byteLength;
    if (size > maxBytes) return undefined;
    kept.push(chunk);
  }
  return Buffer.concat(kept);
}

function messageIn(json: string): string {
  try {
    const { message } = JSON.parse(json) as { message?: unknown };
    return typeof message === "string" ? message : "";
  } catch {
    return "";
  }
}
