/** A reader of a followed log that resumes by the id of the last event, as browsers do. */
import type { LogSummary } from "../../../src/shared/job.ts";
import { apiRequest } from "./admin-api.ts";

const EVENT = /^event: (\w+)\ndata: (.*(?:\ndata: .*)*)\nid: (.*)$/;
const RECONNECT_DELAY_MS = 200;

export class LogFollower {
  readonly #hash = new Bun.CryptoHasher("sha256");
  #bytes = 0;
  #lines = 0;
  #lastId: string | undefined;
  #reconnects = -1;

  constructor(readonly jobId: string) {}

  get lines(): number {
    return this.#lines;
  }

  get reconnects(): number {
    return this.#reconnects;
  }

  /** As a job's result describes its log. */
  described(): Omit<LogSummary, "truncated"> {
    return { bytes: this.#bytes, lines: this.#lines, sha256: this.#hash.copy().digest("hex") };
  }

  /** Resolves at the end of the log. Asks the APIs at these URLs in turn. */
  async readFrom(urls: () => readonly string[]): Promise<void> {
    for (;;) {
      this.#reconnects += 1;
      const all = urls();
      const url = all[this.#reconnects % all.length] ?? "";
      try {
        if (await this.#read(url)) return;
      } catch {
        // The connection was broken, or is not possible now.
      }
      await Bun.sleep(RECONNECT_DELAY_MS);
    }
  }

  /** False: the stream has ended before the log. */
  async #read(url: string): Promise<boolean> {
    const headers: Record<string, string> =
      this.#lastId === undefined ? {} : { "last-event-id": this.#lastId };
    const response = await apiRequest(url, `/api/v1/jobs/${this.jobId}/logs?follow=true`, { headers });
    if (!response.ok || !response.body) return false;
    let rest = "";
    for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
      const events = (rest + text).split("\n\n");
      rest = events.pop() ?? "";
      for (const event of events) if (this.#add(event) === "end") return true;
    }
    return false;
  }

  #add(event: string): string | undefined {
    const [, kind, data = "", id] = EVENT.exec(event) ?? [];
    if (kind === undefined) return undefined;
    this.#lastId = id;
    if (kind === "line") {
      const line = `${data.replaceAll("\ndata: ", "\n")}\n`;
      this.#hash.update(line);
      this.#bytes += Buffer.byteLength(line);
      this.#lines += 1;
    }
    return kind;
  }
}
