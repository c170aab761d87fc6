/** Downloads one LFS object to a file. What it has received stays there for the next try. */
import { type FileHandle, open } from "node:fs/promises";
import { StepFailure } from "../job/failure.ts";
import { type AnswerKind, judge } from "./http-answer.ts";
import type { LfsObject, Link } from "./lfs-batch.ts";
import { failed, type LfsAnswer, type LfsHttp, reasonOf, writeFailure } from "./lfs-http.ts";

/** With these a server refuses a link that has ended; 404 and 410 can also mean that it has lost the object. */
const LINK_REFUSED: ReadonlySet<number> = new Set([401, 403, 404, 410]);

/** A storage service answers 403 for its own reasons: it does not know the job's credentials. */
const LINK_DENIALS: readonly AnswerKind[] = ["unauthenticated"];

export class LfsDownload {
  /** Grows with everything that is received. */
  totalReceivedBytes = 0;
  readonly #object: LfsObject;
  readonly #file: string;
  readonly #purpose: string;
  #hash = new Bun.CryptoHasher("sha256");
  #keptBytes = 0;
  #isResumed = false;
  #hasRefusedLink = false;

  /** `file` does not exist yet. */
  constructor(object: LfsObject, file: string) {
    this.#object = object;
    this.#file = file;
    this.#purpose = `the download of ${object.name}`;
  }

  /** @throws StepFailure; a retryable one needs a new link. */
  async receive(http: LfsHttp, link: Link, signal: AbortSignal): Promise<string> {
    const headers = new Headers(link.headers);
    // The range is one of the object, not of a compressed form of it.
    if (this.#keptBytes > 0) headers.set("Range", `bytes=${this.#keptBytes}-`);
    if (this.#keptBytes > 0) headers.set("Accept-Encoding", "identity");
    const answer = await http.send({ url: link.href, purpose: this.#purpose, headers, signal });
    await this.#begin(http, answer);
    this.#hasRefusedLink = false;
    await this.#keep(answer, signal);
    this.#check(answer.url.host);
    return this.#file;
  }

  async #begin(http: LfsHttp, answer: LfsAnswer): Promise<void> {
    const { response, url } = answer;
    const requested = this.#keptBytes;
    if (judge(response).kind === "success") {
      if (requested === 0 || response.status !== 206) this.#restart();
      else if (startOf(response) === requested) this.#isResumed = true;
      else throw await this.#notResumed(answer);
      return this.#checkLength(response, url.host);
    }
    if (response.status === 416 && requested > 0) throw await this.#notResumed(answer);
    const failure = await http.refusal(answer, this.#purpose, LINK_DENIALS);
    if (!LINK_REFUSED.has(response.status) || failure.failure.retryable || this.#hasRefusedLink)
      throw failure;
    this.#hasRefusedLink = true;
    throw new StepFailure({ ...failure.failure, retryable: true, cause: failure });
  }

  #restart(): void {
    this.#hash = new Bun.CryptoHasher("sha256");
    this.#keptBytes = 0;
    this.#isResumed = false;
  }

  async #notResumed({ response, url }: LfsAnswer): Promise<StepFailure> {
    await response.body?.cancel();
    this.#restart();
    return failed(`${url.host} cannot resume ${this.#purpose}`, true);
  }

  /** A page in place of the object is recognised before it is received. */
  #checkLength(response: Response, host: string): void {
    const length = response.headers.get("content-length");
    if (length === null || response.headers.has("content-encoding")) return;
    const size = this.#keptBytes + Number(length);
    if (size === this.#object.size) return;
    const type = response.headers.get("content-type");
    const shownType = type !== null && /^[\w.+-]+\/[\w.+-]+/.exec(type)?.[0];
    const message = `${host} has other contents for ${this.#object.name} than its pointer: ${size} bytes${shownType ? ` of type ${shownType}` : ""} instead of ${this.#object.size}`;
    throw failed(message);
  }

  async #keep({ response, url }: LfsAnswer, signal: AbortSignal): Promise<void> {
    const file = await open(this.#file, this.#keptBytes === 0 ? "w" : "r+", 0o600);
    try {
      for await (const chunk of received(
        response,
        signal,
        `${this.#purpose} was interrupted by ${url.host}`,
      )) {
        await this.#write(file, chunk);
        if (this.#keptBytes > this.#object.size) break;
      }
    } finally {
      await file.close();
    }
  }

  async #write(file: FileHandle, chunk: Uint8Array): Promise<void> {
    try {
      for (let written = 0; written < chunk.byteLength; ) {
        const { bytesWritten } = await file.write(chunk, written, null, this.#keptBytes + written);
        written += bytesWritten;
      }
    } catch (error) {
      throw writeFailure(this.#object.name, error);
    }
    this.#hash.update(chunk);
    this.#keptBytes += chunk.byteLength;
    this.totalReceivedBytes += chunk.byteLength;
  }

  #check(host: string): void {
    const { name, oid, size } = this.#object;
    if (this.#keptBytes < size)
      throw failed(`${host} ended ${this.#purpose} after ${this.#keptBytes} of ${size} bytes`, true);
    if (this.#keptBytes > size)
      throw failed(`${host} has other contents for ${name} than its pointer: more than ${size} bytes`);
    if (this.#hash.copy().digest("hex") === oid) return;
    // The parts may be from different contents.
    const mayPass = this.#isResumed;
    this.#restart();
    throw failed(`${host} has other contents for ${name} than its pointer: the sha256 differs`, mayPass);
  }
}

/** @throws StepFailure with the message, or the signal's reason. */
async function* received(
  response: Response,
  signal: AbortSignal,
  message: string,
): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (!reader) return;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof StepFailure ? error : failed(`${message}: ${reasonOf(error)}`, true, error);
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function startOf(response: Response): number {
  return Number(/^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1]);
}
