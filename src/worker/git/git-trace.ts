/**
 * Reads what git traces to stderr. Its HTTP requests (GIT_TRACE_CURL): git's error messages have neither the headers nor
 * the content type of an answer. And its packets (GIT_TRACE_PACKET), without the contents of packs.
 */
import type { HttpAnswer } from "./http-answer.ts";

/** Without bodies. Git replaces credentials in traced headers; the trace is not logged in any case. */
export const HTTP_TRACE = { GIT_TRACE_CURL: "2", GIT_TRACE_CURL_NO_DATA: "1", GIT_TRACE_REDACT: "1" };
export const PACKET_TRACE = { GIT_TRACE_PACKET: "2" };

export interface HttpExchange extends HttpAnswer {
  readonly method: string;
  /** With the query; a whole URL in a request to a proxy. */
  readonly path: string;
  readonly headers: ReadonlyMap<string, string>;
}

export interface AdvertisedRef {
  readonly id: string;
  readonly ref: string;
}

const TRACE = /^\d\d:\d\d:\d\d\.\d+ (?:\S+:\d+ +)?(== Info|=> Send|<= Recv|packet)(.*)$/;
const SENT = /^ header: ([A-Z]+) (\S+) HTTP\/[\d.]+$/;
const STATUS = /^ header: HTTP\/[\d.]+ (\d{3})\b/;
const HEADER = /^ header: ([^:\s]+): *(.*)$/;
const ADVERTISED_REF = /^: +fetch< ([0-9a-f]{40}|[0-9a-f]{64}) (refs\/[^ \0]+)/;
/** The last of one command's exchanges. */
const MAX_EXCHANGES = 50;

interface Request {
  readonly method: string;
  readonly path: string;
}

export class GitTrace {
  readonly exchanges: HttpExchange[] = [];
  readonly #onAdvertisedRef: ((offer: AdvertisedRef) => void) | undefined;
  #request: Request = { method: "", path: "" };
  /** Of the last exchange. */
  #headers = new Map<string, string>();

  constructor(onAdvertisedRef?: (offer: AdvertisedRef) => void) {
    this.#onAdvertisedRef = onAdvertisedRef;
  }

  /** False for a line that is not a trace. */
  read(line: string): boolean {
    const [, kind, text = ""] = TRACE.exec(line) ?? [];
    if (kind === "=> Send") this.#readSent(text);
    else if (kind === "<= Recv") this.#readReceived(text);
    else if (kind === "packet") this.#readPacket(text);
    return kind !== undefined;
  }

  #readSent(text: string): void {
    const [, method, path] = SENT.exec(text) ?? [];
    if (method !== undefined && path !== undefined) this.#request = { method, path };
  }

  #readReceived(text: string): void {
    const status = STATUS.exec(text)?.[1];
    if (status !== undefined) {
      this.#headers = new Map();
      this.exchanges.push({ ...this.#request, status: Number(status), headers: this.#headers });
      if (this.exchanges.length > MAX_EXCHANGES) this.exchanges.shift();
      return;
    }
    const [, name, value = ""] = HEADER.exec(text) ?? [];
    if (name !== undefined) this.#headers.set(name.toLowerCase(), value.trim());
  }

  #readPacket(text: string): void {
    const [, id, ref] = ADVERTISED_REF.exec(text) ?? [];
    if (id !== undefined && ref !== undefined) this.#onAdvertisedRef?.({ id, ref });
  }
}

export function isTrace(line: string): boolean {
  return TRACE.test(line);
}
