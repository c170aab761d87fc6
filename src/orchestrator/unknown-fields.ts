/** Logs each name of an unknown field in messages once, with bounded memory. */
import { createHash } from "node:crypto";
import type { Logger } from "../shared/logging.ts";

/** A sender that uses new names in every message must not fill memory. */
const MAX_LOGGED = 1000;
const MAX_PER_LINE = 20;
const MAX_SHOWN_LENGTH = 100;

export class UnknownFields {
  /** Hashes, since a name may be almost as long as a message. */
  readonly #logged = new Set<string>();

  constructor(private readonly logger: Logger) {}

  log(fields: readonly string[]): void {
    const unlogged: string[] = [];
    for (const field of fields) {
      if (unlogged.length === MAX_PER_LINE || this.#logged.size === MAX_LOGGED) break;
      const hash = createHash("sha256").update(field).digest("base64");
      if (this.#logged.has(hash)) continue;
      this.#logged.add(hash);
      unlogged.push(field.slice(0, MAX_SHOWN_LENGTH));
    }
    if (unlogged.length > 0) this.logger.warn({ fields: unlogged }, "unknown fields are ignored");
  }
}
