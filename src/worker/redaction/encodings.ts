/** The encodings in which programs print a secret: verbatim, escaped, percent-encoded, hex and base64. */

/** Masking shorter secrets would make log lines unreadable and protect nothing. */
const MIN_SECRET_CHARS = 4;

/** A shorter line of a secret (`true`, `data:`) or piece of base64 is too common to be recognised as a secret. */
export const MIN_DISTINCT_CHARS = 8;

/** Longer forms are searched for in parts, which limits how much of a stream has to be held back. */
const MAX_FORM_CHARS = 128;

/** The forms of a longer secret are made of parts of this length, so that each step of this work is short. */
const WINDOW_CHARS = 1024;

/** Of further lines of a secret, only the text itself is masked: making the encodings of a line takes half a ms. */
const MAX_ENCODED_LINES = 1000;

export interface SecretForm {
  /** Without line breaks, which programs may insert anywhere. */
  readonly text: string;
  readonly isBase64: boolean;
}

/** Text without control characters and without terminal sequences for cursor and colours. */
export function visibleText(text: string): string {
  if (!CONTROL.test(text)) return text;
  return Bun.stripANSI(text).replaceAll(ALL_CONTROLS, "");
}

/** All control characters except tab. */
const CONTROL = /[^\P{Cc}\t]/u;
const ALL_CONTROLS = new RegExp(CONTROL, "gu");

/** In batches, each of which takes a short time. */
export function* secretForms(secret: string): Generator<readonly SecretForm[]> {
  const whole = secret.trim();
  if (whole.length < MIN_SECRET_CHARS) return;
  // A program may print one line of the secret alone, or indented.
  const lines = whole
    .split(/\r\n|\r|\n/)
    .map((line) => line.trim())
    .filter((line) => line.length >= MIN_DISTINCT_CHARS);
  for (const part of windows(whole)) yield formsOfOne(part).flatMap(inParts);
  const others = unique(lines).filter((line) => line !== whole);
  for (const line of others.slice(0, MAX_ENCODED_LINES))
    for (const part of windows(line)) yield formsOfOne(part).flatMap(inParts);
  for (const line of others.slice(MAX_ENCODED_LINES))
    yield inParts({ text: visibleText(line), isBase64: false });
}

/** The last window overlaps the previous one, so all windows have the full length. No character is divided. */
function* windows(text: string): Generator<string> {
  if (text.length <= WINDOW_CHARS) return yield text;
  for (let from = 0; from < text.length; from += WINDOW_CHARS) {
    const begin = Math.min(from, text.length - WINDOW_CHARS);
    const end = begin + WINDOW_CHARS;
    yield text.slice(isWithinPair(text, begin) ? begin - 1 : begin, isWithinPair(text, end) ? end + 1 : end);
  }
}

function isWithinPair(text: string, at: number): boolean {
  return (text.charCodeAt(at) & 0xfc00) === 0xdc00 && (text.charCodeAt(at - 1) & 0xfc00) === 0xd800;
}

function formsOfOne(secret: string): SecretForm[] {
  const literal = [
    secret,
    ...jsonForms(secret),
    ...shellForms(secret),
    ...bothCases(unique(percentForms(secret))),
    ...hexForms(secret),
  ];
  const base64 = base64Cores(secret).filter((core) => core.length >= MIN_DISTINCT_CHARS);
  return [
    ...unique(unique(literal).map(visibleText)).map((text) => ({ text, isBase64: false })),
    ...unique(base64.flatMap((core) => [core, urlSafe(core)])).map((text) => ({ text, isBase64: true })),
  ];
}

/** The last part overlaps the previous one, so all parts have the full length. */
function inParts({ text, isBase64 }: SecretForm): SecretForm[] {
  if (text.length <= MAX_FORM_CHARS) return [{ text, isBase64 }];
  const parts: SecretForm[] = [];
  for (let from = 0; from < text.length; from += MAX_FORM_CHARS) {
    const begin = Math.min(from, text.length - MAX_FORM_CHARS);
    parts.push({ text: text.slice(begin, begin + MAX_FORM_CHARS), isBase64 });
  }
  return parts;
}

/** JSON encoders may or may not escape `/`, HTML's special characters, and characters beyond ASCII. */
function jsonForms(secret: string): string[] {
  const plain = JSON.stringify(secret).slice(1, -1);
  const ascii = plain.replaceAll(/[\u0080-\uffff]/g, unicodeEscape);
  const html = plain.replaceAll(/[<>&\u2028\u2029]/g, unicodeEscape);
  return [plain, ascii, html].flatMap((form) => [form, form.replaceAll("/", "\\/")]);
}

function unicodeEscape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

/** As quoted by `set -x` and `printf %q`. */
function shellForms(secret: string): string[] {
  return [secret.replaceAll("'", "'\\''"), secret.replaceAll(/[^\w@%+=:,./-]/g, "\\$&")];
}

/** Encoders differ in the characters that they encode; only letters and digits are never encoded. */
function percentForms(secret: string): string[] {
  const component = encodeURIComponent(secret.toWellFormed());
  const strict = component.replaceAll(/[!'()*]/g, percentOf);
  const everyByte = Buffer.from(secret).toString("hex").replaceAll(/../g, "%$&").toUpperCase();
  const withTilde = strict.replaceAll("~", "%7E");
  const forms = [component, strict, withTilde, withTilde.replaceAll("%2A", "*"), everyByte];
  return forms
    .flatMap((form) => [form, form.replaceAll("%20", "+")])
    .flatMap((form) => [form, form.replaceAll("%2F", "/")]);
}

function percentOf(character: string): string {
  return `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
}

const PERCENT_ENCODED = /%[0-9A-F]{2}/g;

/** Changes the case of the two hex digits only, not of letters that follow them. */
function bothCases(forms: readonly string[]): string[] {
  const inLowerCase = (digits: string) => digits.toLowerCase();
  return forms.flatMap((form) => [form, form.replaceAll(PERCENT_ENCODED, inLowerCase)]);
}

function hexForms(secret: string): string[] {
  const hex = Buffer.from(secret).toString("hex");
  return [hex, hex.toUpperCase()];
}

/**
 * The base64 characters that depend on the secret alone, for each of its three possible positions in a group of three
 * bytes. They match whatever precedes the secret (`user:secret`) or follows it.
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

function urlSafe(base64: string): string {
  return base64.replaceAll("+", "-").replaceAll("/", "_");
}

function unique(texts: readonly string[]): string[] {
  return [...new Set(texts)];
}
