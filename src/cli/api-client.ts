/** Client of the admin API, at one orchestrator or at the first of several that answers. */
import { type EventSourceMessage, EventSourceParserStream } from "eventsource-parser/stream";
import { maskUrlPasswords } from "../shared/settings/settings.ts";
import type { ApiToken } from "./api-token.ts";

export interface ApiAddress extends ApiToken {
  readonly url: string;
}

export interface Problem {
  readonly title?: string;
  readonly detail?: string;
  /** Each begins with the name of a field or a parameter. */
  readonly errors?: readonly string[];
}

/** The API answered with an error, or did not answer. The message is ready to print. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  constructor(
    message: string,
    /** HTTP status; undefined if the API did not answer. */
    readonly status?: number,
    /** As the API reports it. */
    readonly problem: Problem = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /** The same error, which also names the flags that fill the fields. */
  withFlags(flagOf: (field: string) => string | undefined): ApiError {
    if (!this.problem.errors) return this;
    const errors = this.problem.errors.map((error) =>
      error.replace(/^(\w+): /, (head, field) => {
        const flag = flagOf(field);
        return flag === undefined ? head : `${field} (${flag}): `;
      }),
    );
    const problem = { ...this.problem, errors };
    return new ApiError(describeErrors(problem), this.status, problem, { cause: this });
  }
}

/** No orchestrator needs longer until its answer begins: the longest wait is that for the queue's confirmation. */
const ANSWER_TIMEOUT_MS = 20_000;

export class ApiClient {
  readonly #addresses: readonly ApiAddress[];
  readonly #timeoutMs: number;
  /** Index of the address that answered last. */
  #current = 0;

  /** @param addresses at least one */
  constructor(addresses: readonly ApiAddress[], timeoutMs = ANSWER_TIMEOUT_MS) {
    this.#addresses = addresses;
    this.#timeoutMs = timeoutMs;
  }

  /** @throws ApiError */
  async get<Body>(path: string): Promise<Body> {
    return jsonOf<Body>(await this.#request(path, {}, true));
  }

  /** The body of the answer, as it arrives. @throws ApiError */
  async read(path: string): Promise<ReadableStream<Uint8Array>> {
    const { body } = await this.#request(path, {}, true);
    return body ?? new ReadableStream({ start: (controller) => controller.close() });
  }

  /**
   * @param isRepeatable The request has the same effect if an orchestrator has received it already.
   * @throws ApiError
   */
  async post<Body>(path: string, body: string, isRepeatable = false): Promise<Body> {
    const init = { method: "POST", body, headers: { "content-type": "application/json" } };
    return jsonOf<Body>(await this.#request(path, init, isRepeatable));
  }

  /** All server-sent events until the stream ends. @throws ApiError */
  async *events(path: string, lastEventId: string | undefined): AsyncGenerator<EventSourceMessage> {
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (lastEventId !== undefined) headers["last-event-id"] = lastEventId;
    const response = await this.#request(path, { headers }, true);
    if (!response.body) return;
    try {
      yield* response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
    } catch (error) {
      throw new ApiError("lost the connection while reading the log", undefined, {}, { cause: error });
    }
  }

  async #request(path: string, init: RequestInit, isRepeatable: boolean): Promise<Response> {
    const failures: ApiError[] = [];
    for (const _ of this.#addresses) {
      const address = this.#addresses[this.#current] as ApiAddress;
      try {
        return await this.#send(address, path, init);
      } catch (error) {
        if (!(error instanceof ApiError) || !mayAnotherAnswer(error, isRepeatable)) throw error;
        failures.push(error);
        this.#current = (this.#current + 1) % this.#addresses.length;
      }
    }
    const [first, ...others] = failures;
    if (first !== undefined && others.length === 0) throw first;
    const message = failures.map((failure) => failure.message).join("\n");
    throw new ApiError(message, first?.status, {}, { cause: first });
  }

  async #send(address: ApiAddress, path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    if (address.token !== undefined) headers.set("authorization", `Bearer ${address.token}`);
    const slow = new AbortController();
    const seconds = this.#timeoutMs / 1000;
    const timer = setTimeout(() => slow.abort(new Error(`no answer within ${seconds} s`)), this.#timeoutMs);
    let response: Response;
    try {
      // Bun would end a stream in which nothing arrives for five minutes, as that of a waiting job.
      const endless = { timeout: false } as RequestInit;
      const url = `${address.url.replace(/\/+$/, "")}${path}`;
      response = await fetch(url, { ...endless, ...init, headers, signal: slow.signal });
    } catch (error) {
      throw new ApiError(notReached(address, error), undefined, {}, { cause: error });
    } finally {
      clearTimeout(timer);
    }
    if (response.ok) return response;
    throw await refusal(response, address);
  }
}

async function jsonOf<Body>(response: Response): Promise<Body> {
  const text = await bodyOf(response);
  try {
    return JSON.parse(text) as Body;
  } catch (error) {
    const url = maskUrlPasswords(response.url);
    const message = `the answer of ${url} is not JSON; expected the admin API of an orchestrator: check --api or BLACKTREE_API`;
    throw new ApiError(message, undefined, {}, { cause: error });
  }
}

async function bodyOf(response: Response): Promise<string> {
  try {
    return await response.text();
  } catch (error) {
    throw new ApiError("lost the connection while reading the answer", undefined, {}, { cause: error });
  }
}

/** No connection was made, so nothing has been sent. */
const NOT_CONNECTED = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"]);

/** In place of Bun's messages, which speak of a computer and a URL. */
const REASONS = new Map([
  ["ECONNREFUSED", "the connection was refused: nothing listens there"],
  ["ENOTFOUND", "the host's name is not known"],
  ["EAI_AGAIN", "the host's name cannot be looked up now"],
  ["EHOSTUNREACH", "there is no route to the host"],
  ["ENETUNREACH", "there is no route to the network"],
]);

/** A request that no server has received may be sent to another one; a repeatable request always may. */
function mayAnotherAnswer({ status, cause }: ApiError, isRepeatable: boolean): boolean {
  if (isRepeatable) return status === undefined || [502, 503, 504].includes(status);
  const { code } = Object(cause) as { code?: string };
  return status === undefined && NOT_CONNECTED.has(code ?? "");
}

function notReached({ url }: ApiAddress, error: unknown): string {
  const { code } = Object(error) as { code?: string };
  const reason = REASONS.get(code ?? "") ?? (error instanceof Error ? error.message : String(error));
  return `cannot reach the orchestrator's admin API at ${maskUrlPasswords(url)}: ${reason}; set its URL with --api or BLACKTREE_API`;
}

async function refusal(response: Response, { origin }: ApiAddress): Promise<ApiError> {
  const { status } = response;
  const text = await bodyOf(response);
  const problem = problemOf(response, text);
  if (problem.errors) return new ApiError(describeErrors(problem), status, problem);
  const message = [problem.title, problem.detail].filter((part) => part !== undefined).join(": ");
  return new ApiError(status === 401 ? `${message}; ${origin}` : message, status, problem);
}

/** A proxy in front of the API answers with pages. */
function problemOf(response: Response, text: string): Problem {
  if (response.headers.get("content-type")?.includes("json")) return JSON.parse(text) as Problem;
  const firstLine = text.trim().split("\n")[0]?.slice(0, 200);
  return { title: `the API answered ${response.status}${firstLine ? `: ${firstLine}` : ""}` };
}

/** One line for one error. */
function describeErrors({ title, errors = [] }: Problem): string {
  if (errors.length === 1) return `${title}: ${errors[0]}`;
  return [`${title}:`, ...errors.map((each) => `  ${each}`)].join("\n");
}
