/** Downloads one LFS object to a file. The received part stays there for the next try. */
import { type FileHandle, open } from "node:fs/promises";
import { StepFailure } from "../job/failure.ts";
import { type AnswerKind, judge } from "./http-answer.ts";
import type { LfsObject, Link } from "./lfs-batch.ts";
import { failed, onFile } from "./lfs-failure.ts";
import type { LfsAnswer, LfsHttp } from "./lfs-http.ts";

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

  /** Returns the file. @throws StepFailure; a retryable one needs a new link. */
  async receive(http: LfsHttp, link: Link, signal: AbortSignal): Promise<string> {
    const answer = await this.#request(http, link, signal);
    if (judge(answer.response).kind !== "success") throw await this.#refusal(http, answer);
    this.#hasRefusedLink = false;
    try {
      this.#checkLength(answer);
      await onFile(this.#object.name, () => this.#keep(http, answer));
    } finally {
      await answer.response.body?.cancel().catch(() => undefined);
    }
    this.#check(answer.url.host);
    return this.#file;
  }

  /** Requests the missing part, or everything from a server that does not send this part. */
  async #request(http: LfsHttp, link: Link, signal: AbortSignal): Promise<LfsAnswer> {
    const headers = new Headers(link.headers);
    if (this.#keptBytes > 0) {
      headers.set("Range", `bytes=${this.#keptBytes}-`);
      // The range is one of the object, not of a compressed form of it.
      headers.set("Accept-Encoding", "identity");
    }
    const answer = await http.send({ url: link.href, purpose: this.#purpose, headers, signal });
    const { response } = answer;
    if (this.#keptBytes === 0) return answer;
    if (response.status === 206 && startOf(response) === this.#keptBytes) this.#isResumed = true;
    else if (response.status === 206 || response.status === 416) {
      await response.body?.cancel();
      this.#restart();
      return this.#request(http, link, signal);
    } else if (response.ok) this.#restart();
    return answer;
  }

  /** A refused link may have ended: the first refusal is retried, with a new link. */
  async #refusal(http: LfsHttp, answer: LfsAnswer): Promise<StepFailure> {
    const refusal = await http.refusal(answer, LINK_DENIALS);
    if (!LINK_REFUSED.has(answer.response.status) || this.#hasRefusedLink) return refusal;
    this.#hasRefusedLink = true;
    const { throttled, failure } = refusal;
    return new StepFailure({ ...failure, throttled, retryable: true, cause: refusal });
  }

  #restart(): void {
    this.#hash = new Bun.CryptoHasher("sha256");
    this.#keptBytes = 0;
    this.#isResumed = false;
  }

  /** A page in place of the object is recognised before it is received. */
  #checkLength({ response, url: { host } }: LfsAnswer): void {
    const length = response.headers.get("content-length");
    if (length === null || response.headers.has("content-encoding")) return;
    const size = this.#keptBytes + Number(length);
    if (size === this.#object.size) return;
    const type = response.headers.get("content-type");
    const shownType = type !== null && /^[\w.+-]+\/[\w.+-]+/.exec(type)?.[0];
    const message = `${host} has other contents for ${this.#object.name} than its pointer: ${size} bytes${shownType ? ` of type ${shownType}` : ""} instead of ${this.#object.size}`;
    throw failed(message);
  }

  async #keep(http: LfsHttp, answer: LfsAnswer): Promise<void> {
    const file = await open(this.#file, this.#keptBytes === 0 ? "w" : "r+", 0o600);
    try {
      for await (const chunk of http.chunksOf(answer)) {
        await this.#write(file, chunk);
        if (this.#keptBytes > this.#object.size) break;
      }
    } finally {
      await file.close();
    }
  }

  async #write(file: FileHandle, chunk: Uint8Array): Promise<void> {
    for (let written = 0; written < chunk.byteLength; ) {
      const { bytesWritten } = await file.write(chunk, written, null, this.#keptBytes + written);
      written += bytesWritten;
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

function startOf(response: Response): number {
  return Number(/^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1]);
}
