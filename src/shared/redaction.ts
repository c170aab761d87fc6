/** Takes secrets out of text that leaves the process: log lines, failure messages. */

const MASK = "***";

/** A shorter "secret" hides nothing, and masking it would make every log line unreadable. */
const SHORTEST_SECRET_CHARS = 4;

/** Below this, a run of base64 characters is too common to be taken for a secret. */
const SHORTEST_BASE64_CHARS = 8;

/** `scheme://user:password@`: whatever stands there was never meant for a log. */
const URL_USERINFO = /([a-z][a-z0-9+.-]*:\/\/)[^\s/@'"]+@/gi;

const escaped = (text: string) => text.replaceAll(/[.*+?^${}()|[\]\\/-]/g, "\\$&");

/**
 * The characters of base64 that the secret alone decides, for each of the three places it can have in a group of
 * three bytes: they are found whatever stands before it (`user:secret`) and behind it.
 */
function base64Cores(secret: string): string[] {
  const secretBytes = Buffer.from(secret);
  return [0, 1, 2].map((offset) => {
    const encoded = Buffer.concat([Buffer.alloc(offset), secretBytes])
      .toString("base64")
      .replaceAll("=", "");
    const sharedWithPrefix = Math.ceil((offset * 8) / 6);
    const sharedWithSuffix = (offset + secretBytes.length) % 3 === 0 ? 0 : 1;
    return encoded.slice(sharedWithPrefix, encoded.length - sharedWithSuffix);
  });
}

export class Redactor {
  readonly #patterns = new Set<string>();
  #compiled: RegExp | undefined;

  add(secret: string | undefined): void {
    if (secret === undefined) return;
    // Logs are cleaned line by line, so a secret of several lines has to be known by its lines.
    for (const part of new Set([secret, ...secret.split(/\r?\n/)])) this.#addOne(part.trim());
  }

  clean(text: string): string {
    const withoutUserinfo = text.replaceAll(URL_USERINFO, `$1${MASK}@`);
    return this.#compiled ? withoutUserinfo.replaceAll(this.#compiled, MASK) : withoutUserinfo;
  }

  #addOne(secret: string): void {
    if (secret.length < SHORTEST_SECRET_CHARS) return;
    const literal = [secret, encodeURIComponent(secret), JSON.stringify(secret).slice(1, -1)];
    for (const form of literal) this.#patterns.add(escaped(form));
    for (const core of base64Cores(secret)) {
      if (core.length < SHORTEST_BASE64_CHARS) continue;
      const urlSafe = core.replaceAll("+", "-").replaceAll("/", "_");
      // The characters around the core hold the rest of the secret's bits.
      for (const form of [core, urlSafe]) this.#patterns.add(`[\\w+/-]*${escaped(form)}[\\w+/=-]*`);
    }
    // The longest first: a secret that begins with another one must not be left half visible.
    const longestFirst = [...this.#patterns].sort((one, other) => other.length - one.length);
    this.#compiled = new RegExp(longestFirst.join("|"), "g");
  }
}
