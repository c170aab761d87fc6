/** Client of the admin API, at one orchestrator or at the first of several that answers. */
import { type EventSourceMessage, EventSourceParserStream } from "eventsource-parser/stream";
import type { z } from "zod";
import { maskUrlPasswords } from "../../shared/settings/settings.ts";
import { objectOf, refusalOf, streamOf } from "./answer.ts";
import { ApiError, oneError } from "./error.ts";

export interface ApiToken {
  readonly token: string | undefined;
  /** For the message when the API refuses the token. */
  readonly origin: string;
}

export interface ApiAddress extends ApiToken {
  readonly url: string;
}

type Bytes = Uint8Array<ArrayBuffer>;
type ReadAnswer<Answer> = (response: Response) => Answer | Promise<Answer>;

/** No orchestrator needs longer: the longest wait is that for the queue's confirmation. */
const ANSWER_TIMEOUT_MS = 20_000;

export class ApiClient {
  readonly #addresses: readonly ApiAddress[];
  readonly #timeoutMs: number;
  /** Index of the address that answered last. */
  #current = 0;

  /**
   * @param addresses at least one
   * @param timeoutMs of each address, for the whole answer unless it is a stream
   */
  constructor(addresses: readonly ApiAddress[], timeoutMs = ANSWER_TIMEOUT_MS) {
    this.#addresses = addresses;
    this.#timeoutMs = timeoutMs;
  }

  /** @throws ApiError, also if the answer has not the shape. */
  get<Body>(path: string, shape: z.ZodType): Promise<Body> {
    return this.#ask(path, {}, (response) => objectOf<Body>(response, shape));
  }

  /**
   * For requests that have the same effect if an orchestrator has received them already: they are sent to the next one.
   * @throws ApiError, also if the answer has not the shape.
   */
  post<Body>(path: string, body: string, shape: z.ZodType): Promise<Body> {
    const init = { method: "POST", body, headers: { "content-type": "application/json" } };
    return this.#ask(path, init, (response) => objectOf<Body>(response, shape));
  }

  /** The body of the answer, as it arrives. @throws ApiError, also if it is of another type. */
  read(path: string, type: string, headers: Record<string, string> = {}): Promise<ReadableStream<Bytes>> {
    return this.#ask(path, { headers: { ...headers, accept: type } }, (response) => streamOf(response, type));
  }

  /** All server-sent events until the stream ends. @throws ApiError */
  async *events(
    path: string,
    lastEventId: string | undefined,
    onComment: (comment: string) => void,
  ): AsyncGenerator<EventSourceMessage> {
    const headers: Record<string, string> = {};
    if (lastEventId !== undefined) headers["last-event-id"] = lastEventId;
    const body = await this.read(path, "text/event-stream", headers);
    try {
      yield* body
        .pipeThrough(new TextDecoderStream())
        .pipeThrough(new EventSourceParserStream({ onComment }));
    } catch (error) {
      throw new ApiError("lost the connection while reading the log", undefined, {}, { cause: error });
    }
  }

  async #ask<Answer>(path: string, init: RequestInit, read: ReadAnswer<Answer>): Promise<Answer> {
    const failures: ApiError[] = [];
    while (failures.length < this.#addresses.length) {
      const address = this.#addresses[this.#current] as ApiAddress;
      try {
        return await this.#send(address, path, init, read);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        failures.push(error);
        if (!error.mayAnotherAnswer) break;
        this.#current = (this.#current + 1) % this.#addresses.length;
      }
    }
    throw oneError(failures);
  }

  async #send<Answer>(
    address: ApiAddress,
    path: string,
    init: RequestInit,
    read: ReadAnswer<Answer>,
  ): Promise<Answer> {
    const headers = new Headers(init.headers);
    if (address.token !== undefined) headers.set("authorization", `Bearer ${address.token}`);
    const slow = new AbortController();
    const timer = setTimeout(() => slow.abort(new AnswerTimeout(this.#timeoutMs)), this.#timeoutMs);
    try {
      // Bun would end a stream in which nothing arrives for five minutes, as that of a waiting job.
      const endless = { timeout: false } as RequestInit;
      const url = `${address.url.replace(/\/+$/, "")}${path}`;
      const response = await fetch(url, { ...endless, ...init, headers, signal: slow.signal });
      if (!response.ok) throw await refusalOf(response, address.origin);
      return await read(response);
    } catch (error) {
      throw error instanceof ApiError ? error : notAnswered(address, error);
    } finally {
      clearTimeout(timer);
    }
  }
}

class AnswerTimeout extends Error {
  override readonly name = "AnswerTimeout";
  constructor(timeoutMs: number) {
    super(`it did not arrive within ${timeoutMs / 1000} s`);
  }
}

/** In place of Bun's messages, which speak of a computer and a URL. */
const NOT_CONNECTED = new Map([
  ["ECONNREFUSED", "the connection was refused: nothing listens there"],
  ["ENOTFOUND", "the host's name is not known"],
  ["EAI_AGAIN", "the host's name cannot be looked up now"],
  ["EHOSTUNREACH", "there is no route to the host"],
  ["ENETUNREACH", "there is no route to the network"],
  ["ETIMEDOUT", "the host does not answer"],
]);

/** After the request, or a part of it, has been sent. */
const DISCONNECTED = new Set(["ECONNRESET", "ConnectionClosed", "EPIPE"]);

function notAnswered({ url }: ApiAddress, error: unknown): ApiError {
  const api = `the orchestrator's admin API at ${maskUrlPasswords(url)}`;
  const { code = "", message } = Object(error) as { code?: string; message?: string };
  const isSent = error instanceof AnswerTimeout || DISCONNECTED.has(code);
  const reason = DISCONNECTED.has(code) ? "the connection was closed before its end" : message;
  const text = isSent
    ? `no complete answer of ${api}: ${reason}`
    : `cannot reach ${api}: ${NOT_CONNECTED.get(code) ?? reason}; set its URL with --api or BLACKTREE_API`;
  return new ApiError(text, undefined, {}, { cause: error, mayHaveActed: isSent });
}
