/** Client of an orchestrator's admin API. */
import { type EventSourceMessage, EventSourceParserStream } from "eventsource-parser/stream";
import { maskUrlPasswords } from "../shared/settings/settings.ts";
import type { ApiToken } from "./api-token.ts";

export interface ApiAddress extends ApiToken {
  readonly url: string;
}

/** The API answered with an error, or did not answer. The message is ready to print. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  constructor(
    message: string,
    /** HTTP status; undefined if the API did not answer. */
    readonly status?: number,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

interface Problem {
  readonly title?: string;
  readonly detail?: string;
  readonly errors?: readonly string[];
}

export class ApiClient {
  constructor(private readonly address: ApiAddress) {}

  /** @throws ApiError */
  async get<Body>(path: string): Promise<Body> {
    return (await this.#request(path, {})).json() as Promise<Body>;
  }

  /** @throws ApiError */
  async post<Body>(path: string, body: string): Promise<Body> {
    const init = { method: "POST", body, headers: { "content-type": "application/json" } };
    return (await this.#request(path, init)).json() as Promise<Body>;
  }

  /** All server-sent events until the stream ends. @throws ApiError */
  async *events(path: string, lastEventId: string | undefined): AsyncGenerator<EventSourceMessage> {
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (lastEventId !== undefined) headers["last-event-id"] = lastEventId;
    const response = await this.#request(path, { headers });
    if (!response.body) return;
    try {
      yield* response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
    } catch (error) {
      throw new ApiError("lost the connection while reading the log", undefined, { cause: error });
    }
  }

  async #request(path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.address.token !== undefined) headers.set("authorization", `Bearer ${this.address.token}`);
    let response: Response;
    try {
      response = await fetch(new URL(path, this.address.url), { ...init, headers });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new ApiError(
        `cannot reach the orchestrator's admin API at ${maskUrlPasswords(this.address.url)}: ${reason}; set its URL with --api or BLACKTREE_API`,
        undefined,
        { cause: error },
      );
    }
    if (response.ok) return response;
    const problem = await describe(response);
    const { origin } = this.address;
    throw new ApiError(response.status === 401 ? `${problem}; ${origin}` : problem, response.status);
  }
}

async function describe(response: Response): Promise<string> {
  const text = await response.text();
  if (!response.headers.get("content-type")?.includes("json"))
    return `the API answered ${response.status}: ${text}`;
  const { title, detail, errors } = JSON.parse(text) as Problem;
  if (errors) return [`${title}:`, ...errors.map((each) => `  ${each}`)].join("\n");
  return [title, detail].filter((part) => part !== undefined).join(": ");
}
