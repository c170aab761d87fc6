/**
 * Finds secrets in a text in one pass, in a time that does not depend on the number of secrets. A small table states
 * for every four characters whether a secret may begin with them; only then they are looked up, and the text is compared
 * with the secrets that begin with them.
 */
import { MIN_DISTINCT_CHARS, type SecretForm } from "./encodings.ts";

/** Minimum length of a form. */
export const ANCHOR_CHARS = 4;
/** Four characters form a key of 16 bits: each shifts the key by four bits, so a character drops out after four steps. */
const KEYS = 0x1_0000;

export interface FoundSecret {
  readonly from: number;
  readonly to: number;
  readonly isBase64: boolean;
}

export class SecretIndex {
  readonly #known = new Set<string>();
  readonly #mayBegin = new Uint8Array(KEYS);
  readonly #formsByAnchor = new Map<string, SecretForm[]>();
  /** Beginnings shorter than an anchor, of forms that may continue on the next line. */
  readonly #shortBeginnings = new Set<string>();

  add(form: SecretForm): void {
    if (this.#known.has(form.text)) return;
    this.#known.add(form.text);
    this.#mayBegin[keyOf(form.text)] = 1;
    const anchor = form.text.slice(0, ANCHOR_CHARS);
    const others = this.#formsByAnchor.get(anchor);
    if (others) others.push(form);
    else this.#formsByAnchor.set(anchor, [form]);
    if (!mayContinueOnNextLine(form)) return;
    for (let length = 1; length < ANCHOR_CHARS; length += 1) {
      this.#shortBeginnings.add(form.text.slice(0, length));
    }
  }

  /** Whether the text contains no secret and does not end in the beginning of one. */
  isFreeOf(text: string): boolean {
    let isFree = true;
    const open = this.find(text, 0, () => {
      isFree = false;
    });
    return isFree && open === text.length;
  }

  /**
   * Calls `found` for every secret at or after `from`. Returns the offset from which the end of the text may be the
   * beginning of another secret; the text's length if it is not.
   */
  find(text: string, from: number, found: (secret: FoundSecret) => void): number {
    const mayBegin = this.#mayBegin;
    let open = text.length;
    let key = 0;
    for (let at = from; at < text.length; at += 1) {
      key = ((key << 4) ^ text.charCodeAt(at)) & (KEYS - 1);
      if (mayBegin[key] === 0) continue;
      const begin = at - ANCHOR_CHARS + 1;
      if (begin >= from && this.#compare(text, begin, found)) open = Math.min(open, begin);
    }
    return Math.min(open, this.#shortBeginning(text, from));
  }

  /** Returns true if the text ends within what may be a secret. */
  #compare(text: string, begin: number, found: (secret: FoundSecret) => void): boolean {
    let isOpen = false;
    for (const form of this.#formsByAnchor.get(text.slice(begin, begin + ANCHOR_CHARS)) ?? []) {
      const length = commonLength(form.text, text, begin);
      if (length === form.text.length) found({ from: begin, to: begin + length, isBase64: form.isBase64 });
      else if (begin + length === text.length && mayContinueOnNextLine(form)) isOpen = true;
    }
    return isOpen;
  }

  #shortBeginning(text: string, from: number): number {
    for (let begin = Math.max(from, text.length - ANCHOR_CHARS + 1); begin < text.length; begin += 1) {
      if (this.#shortBeginnings.has(text.slice(begin))) return begin;
    }
    return text.length;
  }
}

/** Shorter forms would match columns of digits. */
function mayContinueOnNextLine({ text }: SecretForm): boolean {
  return text.length >= MIN_DISTINCT_CHARS;
}

function keyOf(text: string): number {
  let key = 0;
  for (let at = 0; at < ANCHOR_CHARS; at += 1) key = ((key << 4) ^ text.charCodeAt(at)) & (KEYS - 1);
  return key;
}

function commonLength(form: string, text: string, begin: number): number {
  const max = Math.min(form.length, text.length - begin);
  let length = 0;
  while (length < max && form.charCodeAt(length) === text.charCodeAt(begin + length)) length += 1;
  return length;
}
