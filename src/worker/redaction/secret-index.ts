/**
 * Finds secrets in text, in one pass whose time does not depend on how many there are: of every four characters a small
 * table says whether a secret may begin with them, and only then it is compared.
 */
import { type SecretForm, SHORTEST_DISTINCT_CHARS } from "./encodings.ts";

/** No form is shorter. */
export const ANCHOR_CHARS = 4;
/** Four characters make a key: each shifts the one before by four bits, and after four steps it is gone. */
const KEYS = 0x1_0000;

export interface FoundSecret {
  readonly from: number;
  readonly to: number;
  readonly isBase64: boolean;
}

export class SecretIndex {
  readonly #known = new Set<string>();
  readonly #mayBegin = new Uint8Array(KEYS);
  readonly #formsByKey = new Map<number, SecretForm[]>();
  /** Beginnings shorter than an anchor, of forms that may go on in the next line. */
  readonly #shortBeginnings = new Set<string>();

  add(form: SecretForm): void {
    if (this.#known.has(form.text)) return;
    this.#known.add(form.text);
    const key = keyOf(form.text);
    this.#mayBegin[key] = 1;
    const others = this.#formsByKey.get(key);
    if (others) others.push(form);
    else this.#formsByKey.set(key, [form]);
    if (!goesOnInNextLine(form)) return;
    for (let length = 1; length < ANCHOR_CHARS; length += 1) {
      this.#shortBeginnings.add(form.text.slice(0, length));
    }
  }

  /** Nothing in it is a secret or may be the beginning of one. */
  isFreeOf(text: string): boolean {
    let isFree = true;
    const open = this.find(text, 0, () => {
      isFree = false;
    });
    return isFree && open === text.length;
  }

  /**
   * Tells of every secret that begins at `from` or behind it. Gives the place from which on the text may be the
   * beginning of another one; the text's length if there is none.
   */
  find(text: string, from: number, found: (secret: FoundSecret) => void): number {
    const mayBegin = this.#mayBegin;
    let open = text.length;
    let key = 0;
    for (let at = from; at < text.length; at += 1) {
      key = ((key << 4) ^ text.charCodeAt(at)) & (KEYS - 1);
      if (mayBegin[key] === 0) continue;
      const begin = at - ANCHOR_CHARS + 1;
      if (begin >= from && this.#compare(text, begin, key, found)) open = Math.min(open, begin);
    }
    return Math.min(open, this.#shortBeginning(text, from));
  }

  /** True: the text ends while it still may become a secret. */
  #compare(text: string, begin: number, key: number, found: (secret: FoundSecret) => void): boolean {
    let isOpen = false;
    for (const form of this.#formsByKey.get(key) ?? []) {
      const length = commonLength(form.text, text, begin);
      if (length === form.text.length) found({ from: begin, to: begin + length, isBase64: form.isBase64 });
      else if (begin + length === text.length && goesOnInNextLine(form)) isOpen = true;
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

/** A shorter one would be found in columns of digits. */
function goesOnInNextLine({ text }: SecretForm): boolean {
  return text.length >= SHORTEST_DISTINCT_CHARS;
}

function keyOf(text: string): number {
  let key = 0;
  for (let at = 0; at < ANCHOR_CHARS; at += 1) key = ((key << 4) ^ text.charCodeAt(at)) & (KEYS - 1);
  return key;
}

function commonLength(form: string, text: string, begin: number): number {
  const most = Math.min(form.length, text.length - begin);
  let length = 0;
  while (length < most && form.charCodeAt(length) === text.charCodeAt(begin + length)) length += 1;
  return length;
}
