/** The forms in which programs print a secret: as it is, escaped, percent-encoded, in hex and in base64. */

/** A shorter "secret" hides nothing, and masking it would make every log line unreadable. */
const SHORTEST_SECRET_CHARS = 4;

/** Below this, a line of a secret (`true`, `data:`) or a run of base64 is too common to be taken for a secret. */
export const SHORTEST_DISTINCT_CHARS = 8;

/** A longer form is known by its parts, so what has to be remembered of a stream stays small. */
const LONGEST_FORM_CHARS = 128;

export interface SecretForm {
  /** Without line breaks, which may stand anywhere in what is printed. */
  readonly text: string;
  readonly isBase64: boolean;
}

/** Text as it stands in a log: what moves a terminal's cursor or changes its colours is no part of it. */
export function visibleText(text: string): string {
  if (!CONTROL.test(text)) return text;
  return Bun.stripANSI(text).replaceAll(ALL_CONTROLS, "");
}

/** All but the tabulator. */
const CONTROL = /[^\P{Cc}\t]/u;
const ALL_CONTROLS = new RegExp(CONTROL, "gu");

export function secretForms(secret: string): readonly SecretForm[] {
  const whole = secret.trim();
  if (whole.length < SHORTEST_SECRET_CHARS) return [];
  // A line of it may be printed alone, or indented.
  const lines = whole
    .split(/\r\n|\r|\n/)
    .map((line) => line.trim())
    .filter((line) => line.length >= SHORTEST_DISTINCT_CHARS);
  return [...new Set([whole, ...lines])].flatMap(formsOfOne).flatMap(inParts);
}

function formsOfOne(secret: string): SecretForm[] {
  const literal = [
    secret,
    ...jsonForms(secret),
    ...shellForms(secret),
    ...bothCases(unique(percentForms(secret))),
    ...hexForms(secret),
  ];
  const base64 = base64Cores(secret).filter((core) => core.length >= SHORTEST_DISTINCT_CHARS);
  return [
    ...unique(unique(literal).map(visibleText)).map((text) => ({ text, isBase64: false })),
    ...unique(base64.flatMap((core) => [core, urlSafe(core)])).map((text) => ({ text, isBase64: true })),
  ];
}

/** The last part overlaps the one before it, so that all are long. */
function inParts({ text, isBase64 }: SecretForm): SecretForm[] {
  if (text.length <= LONGEST_FORM_CHARS) return [{ text, isBase64 }];
  const parts: SecretForm[] = [];
  for (let from = 0; from < text.length; from += LONGEST_FORM_CHARS) {
    const begin = Math.min(from, text.length - LONGEST_FORM_CHARS);
    parts.push({ text: text.slice(begin, begin + LONGEST_FORM_CHARS), isBase64 });
  }
  return parts;
}

/** JSON leaves open whether `/`, what HTML gives a meaning, and what is not ASCII are escaped. */
function jsonForms(secret: string): string[] {
  const plain = JSON.stringify(secret).slice(1, -1);
  const ascii = plain.replaceAll(/[\u0080-\uffff]/g, unicodeEscape);
  const html = plain.replaceAll(/[<>&\u2028\u2029]/g, unicodeEscape);
  return [plain, ascii, html].flatMap((form) => [form, form.replaceAll("/", "\\/")]);
}

function unicodeEscape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

/** `set -x` and `printf %q` quote what they show. */
function shellForms(secret: string): string[] {
  return [secret.replaceAll("'", "'\\''"), secret.replaceAll(/[^\w@%+=:,./-]/g, "\\$&")];
}

/** What is encoded differs: nothing but letters and digits stands for itself everywhere. */
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

/** The letter behind `%2F` is not one of its digits. */
function bothCases(forms: readonly string[]): string[] {
  const inLowerCase = (digits: string) => digits.toLowerCase();
  return forms.flatMap((form) => [form, form.replaceAll(PERCENT_ENCODED, inLowerCase)]);
}

function hexForms(secret: string): string[] {
  const hex = Buffer.from(secret).toString("hex");
  return [hex, hex.toUpperCase()];
}

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

function urlSafe(base64: string): string {
  return base64.replaceAll("+", "-").replaceAll("/", "_");
}

function unique(texts: readonly string[]): string[] {
  return [...new Set(texts)];
}
