/**
 * Masks secrets in the lines of one stream. Secrets are also found across line breaks, because programs wrap base64
 * and long lines arrive in parts. So a line that ends like the beginning of a secret is held back until the following
 * text decides.
 */
import { MIN_DISTINCT_CHARS, visibleText } from "./encodings.ts";
import { ANCHOR_CHARS, type FoundSecret, type SecretIndex } from "./secret-index.ts";
import { userinfoSpans } from "./url-userinfo.ts";

const MASK = "***";

interface Line {
  readonly prefix: string;
  readonly from: number;
  readonly to: number;
}

interface Span {
  readonly from: number;
  readonly to: number;
}

export class RedactedLines {
  readonly #secrets: SecretIndex;
  readonly #onLine: (line: string) => void;
  /** The text held back, preceded by the few characters that may begin a secret. */
  #text = "";
  #lines: Line[] = [];
  #masks: Span[] = [];
  /** Offset from which the text may be the beginning of a secret. */
  #open = 0;

  constructor(secrets: SecretIndex, onLine: (line: string) => void) {
    this.#secrets = secrets;
    this.#onLine = onLine;
  }

  /** Whether earlier lines have no effect on how later ones are masked. */
  get isClear(): boolean {
    return this.#text === "";
  }

  /** `prefix` is printed before the line, is never masked and is not part of the stream's text. */
  add(raw: string, prefix = ""): void {
    const line = visibleText(raw);
    if (this.isClear && this.#secrets.isFreeOf(line) && !line.includes("://")) this.#onLine(prefix + line);
    else this.#addPending(line, prefix);
  }

  #addPending(line: string, prefix: string): void {
    const from = this.#text.length;
    this.#text += line;
    this.#lines.push({ prefix, from, to: this.#text.length });
    for (const span of userinfoSpans(line)) this.#masks.push({ from: from + span.from, to: from + span.to });
    this.#open = this.#secrets.find(this.#text, this.#open, (secret) => this.#mask(secret));
    this.#flush();
  }

  /** The stream has ended. Masks the rest if it is a long enough part of a secret, and passes on all lines. */
  end(): void {
    if (this.#text.length - this.#open >= MIN_DISTINCT_CHARS) {
      this.#masks.push({ from: this.#open, to: this.#text.length });
    }
    this.#open = this.#text.length;
    this.#flush();
  }

  #mask(secret: FoundSecret): void {
    const last = this.#masks.at(-1);
    if (last && last.from <= secret.from && secret.to <= last.to) return;
    const isInOneLine = !this.#lines.some(({ from }) => secret.from < from && from < secret.to);
    if (!isInOneLine && secret.to - secret.from < MIN_DISTINCT_CHARS) return;
    this.#masks.push(secret.isBase64 ? this.#wholeBase64(secret, last?.to ?? 0) : secret);
  }

  /** Extends the mask over the adjacent characters, which encode the secret's remaining bits, down to `floor`. */
  #wholeBase64(secret: Span, floor: number): Span {
    const first = this.#lines.findLast(({ from }) => from <= secret.from)?.from ?? 0;
    const end = this.#lines.find(({ to }) => to >= secret.to)?.to ?? this.#text.length;
    let { from, to } = secret;
    const least = Math.max(first, Math.min(floor, from));
    while (from > least && isBase64(this.#text.charCodeAt(from - 1))) from -= 1;
    while (to < end && isBase64(this.#text.charCodeAt(to))) to += 1;
    while (to < end && this.#text[to] === "=") to += 1;
    return { from, to };
  }

  /** Passes on all lines except those that may contain the beginning of a secret of at least an anchor's length. */
  #flush(): void {
    const isKept = this.#text.length - this.#open >= ANCHOR_CHARS;
    const firstKept = isKept ? this.#lines.findIndex(({ to }) => to > this.#open) : this.#lines.length;
    const ready = this.#lines.slice(0, firstKept);
    const masks = this.#masks.length > 1 ? merged(this.#masks) : this.#masks;
    for (const line of ready) this.#onLine(line.prefix + this.#masked(line, masks));
    this.#forget(Math.min(this.#open, this.#lines[firstKept]?.from ?? this.#open), firstKept);
  }

  #masked(line: Line, masks: readonly Span[]): string {
    let text = "";
    let at = line.from;
    for (const { from, to } of masks) {
      if (to <= line.from || from >= line.to) continue;
      text += this.#text.slice(at, Math.max(at, from)) + MASK;
      at = Math.min(to, line.to);
    }
    return text + this.#text.slice(at, line.to);
  }

  #forget(before: number, lineCount: number): void {
    const moved = ({ from, to }: Span) => ({ from: from - before, to: to - before });
    this.#text = this.#text.slice(before);
    this.#open -= before;
    this.#lines = this.#lines.slice(lineCount).map((line) => ({ ...line, ...moved(line) }));
    this.#masks = this.#masks.filter(({ to }) => to > before).map(moved);
  }
}

function merged(masks: readonly Span[]): Span[] {
  const inOrder = masks.toSorted((one, other) => one.from - other.from);
  const result: { from: number; to: number }[] = [];
  for (const { from, to } of inOrder) {
    const last = result.at(-1);
    if (last && from <= last.to) last.to = Math.max(last.to, to);
    else result.push({ from, to });
  }
  return result;
}

/** Standard and URL-safe base64, without padding. */
const BASE64_CODES = new Set(
  Array.from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_", (each) =>
    each.charCodeAt(0),
  ),
);

function isBase64(code: number): boolean {
  return BASE64_CODES.has(code);
}
