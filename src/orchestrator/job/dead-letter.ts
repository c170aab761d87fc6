/**
 * The copy of a message for the dead-letter queue, where operators read it: without secrets, as far as they can be found.
 * Everything else stays byte for byte, whatever is wrong with the message.
 */
import { gzipSync } from "node:zlib";
import { createScanner } from "jsonc-parser";
import { eventLoopTurn } from "../../shared/event-loop.ts";
import type { DeadLetter, Delivery, MessageProperties } from "../queue/queue.ts";
import { decodedBody, UndecodableBody } from "./content-encoding.ts";
import { SECRET_FIELDS } from "./fields.ts";

export type DeadLetterSecrets = "cut" | "keep";

const CUT = '"***"';

/** Also names that a sender may have used by mistake, and those of build arguments. */
const SECRET_NAME =
  /token|secret|passw|passphrase|registry[_-]?auth|authorization|credential|(api|access|private)[_-]?key/i;

/** A shorter secret may occur in a text by chance. */
const MIN_SEARCHED_CHARS = 6;

/** Far more than a job has; it bounds the time. */
const MAX_SEARCHED = 100;

/** A longer path has no more names. */
const MAX_PATH_CHARS = 200;

/** A message that was encoded as JSON twice, or once more. */
const MAX_NESTED_TEXTS = 2;

/** RabbitMQ accepts no larger message by default. */
const MAX_DECODED_BYTES = 16 * 1024 * 1024;

const TOKENS_PER_TURN = 10_000;

type Message = Pick<Delivery, "body"> & {
  readonly properties: Pick<MessageProperties, "contentEncoding">;
};

export async function deadLetterOf(
  { body, properties }: Message,
  reason: string,
  secrets: DeadLetterSecrets,
): Promise<DeadLetter> {
  const asItIs = { reason, body, redacted: [] };
  const decoded = secrets === "keep" ? undefined : decodedIfPossible(body, properties.contentEncoding);
  if (decoded === undefined) return asItIs;
  // One character for each byte, so that bytes which are not UTF-8 stay as they are.
  const { text, paths } = await withoutSecrets(decoded.toString("latin1"), MAX_NESTED_TEXTS);
  if (paths.length === 0) return asItIs;
  const cut = Buffer.from(text, "latin1");
  return { reason, body: decoded === body ? cut : gzipSync(cut), redacted: [...new Set(paths)] };
}

/** Undefined for a body that nobody else can read, either. */
function decodedIfPossible(body: Buffer, encoding: string | undefined): Buffer | undefined {
  try {
    return decodedBody(body, encoding, MAX_DECODED_BYTES);
  } catch (error) {
    if (error instanceof UndecodableBody) return undefined;
    throw error;
  }
}

interface CutText {
  readonly text: string;
  /** Of the fields that were cut, such as `secrets.NPM_TOKEN`. */
  readonly paths: readonly string[];
}

async function withoutSecrets(source: string, nestedTexts: number): Promise<CutText> {
  const found = new Set<string>();
  const first = await edited(source, async ({ sign, value, isSecret }) => {
    if (isSecret) {
      if (value === "null") return undefined;
      found.add(value);
      return { raw: CUT };
    }
    if (sign !== '"') return undefined;
    return (await nestedEdit(value, nestedTexts)) ?? loginEdit(value, found);
  });
  const searched = [...found].filter(({ length }) => length >= MIN_SEARCHED_CHARS).slice(0, MAX_SEARCHED);
  if (searched.length === 0) return first;
  // For example a token that was also written into a build argument.
  const second = await edited(first.text, async ({ sign, value }) => {
    if (sign !== '"' || !searched.some((secret) => value.includes(secret))) return undefined;
    return { raw: quoted(searched.reduce((text, secret) => text.replaceAll(secret, "***"), value)) };
  });
  return { text: second.text, paths: [...first.paths, ...second.paths] };
}

async function nestedEdit(value: string, nestedTexts: number): Promise<Edit | undefined> {
  if (nestedTexts === 0 || !/^\s*[[{]/.test(value)) return undefined;
  const { text, paths } = await withoutSecrets(value, nestedTexts - 1);
  return paths.length === 0 ? undefined : { raw: quoted(text), paths };
}

/** A user and password in a URL. */
function loginEdit(value: string, found: Set<string>): Edit | undefined {
  const scheme = value.indexOf("://");
  const start = scheme + "://".length;
  const end = value.lastIndexOf("@");
  if (scheme < 0 || end < start) return undefined;
  const login = value.slice(start, end);
  found.add(login).add(login.slice(login.indexOf(":") + 1));
  return { raw: quoted(`${value.slice(0, start)}***${value.slice(end)}`) };
}

/** As JSON of characters that each stand for one byte. */
const quoted = (text: string) =>
  JSON.stringify(text).replace(
    /[^\0-\xff]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );

interface Value {
  /** Its first character. */
  readonly sign: string;
  /** Of a string: without quotes and escapes. */
  readonly value: string;
  /** It is in a field whose name is that of a secret. */
  readonly isSecret: boolean;
}

interface Edit {
  /** JSON text that replaces the value. */
  readonly raw: string;
  /** What was cut in the value, if it is not the value itself. */
  readonly paths?: readonly string[];
}

/** Replaces values in a JSON text, which need not be complete or valid. */
async function edited(source: string, editOf: (value: Value) => Promise<Edit | undefined>): Promise<CutText> {
  const place = new Place();
  const parts: string[] = [];
  const paths: string[] = [];
  let copied = 0;
  const edit = async ({ sign, value, start, end }: Token) => {
    const edit = await editOf({ sign, value, isSecret: place.isSecret });
    if (!edit) return;
    parts.push(source.slice(copied, start), edit.raw);
    paths.push(...(edit.paths ?? [""]).map((inner) => place.pathTo(inner)));
    copied = end;
  };
  /** The name of a field if a colon follows, else a value. */
  let pending: Token | undefined;
  let count = 0;
  for (const token of tokensOf(source)) {
    if (++count % TOKENS_PER_TURN === 0) await eventLoopTurn();
    if (pending && token.sign === ":") place.enterField(pending.value);
    else if (pending) await edit(pending);
    const isPunctuation = "{}[],:".includes(token.sign);
    if (isPunctuation) place.pass(token.sign);
    pending = isPunctuation ? undefined : token;
  }
  if (pending) await edit(pending);
  parts.push(source.slice(copied));
  return { text: parts.join(""), paths };
}

interface Token extends Omit<Value, "isSecret"> {
  readonly start: number;
  readonly end: number;
}

function* tokensOf(source: string): Generator<Token> {
  const scanner = createScanner(source, true);
  for (;;) {
    scanner.scan();
    const start = scanner.getTokenOffset();
    if (start >= source.length) return;
    const end = start + scanner.getTokenLength();
    yield { sign: source.charAt(start), value: scanner.getTokenValue(), start, end };
  }
}

interface Container {
  readonly isSecret: boolean;
  readonly path: string;
  /** Of the current field; undefined in an array. */
  name: string | undefined;
}

/** Where in the JSON text the scanner is. */
class Place {
  readonly #containers: Container[] = [{ isSecret: false, path: "", name: undefined }];

  get #current(): Container {
    return this.#containers.at(-1) as Container;
  }

  get isSecret(): boolean {
    const { isSecret, name } = this.#current;
    return isSecret || (name !== undefined && (SECRET_FIELDS.has(name) || SECRET_NAME.test(name)));
  }

  pathTo(inner: string): string {
    const { path, name } = this.#current;
    if (path.length > MAX_PATH_CHARS) return path;
    return [path, name, inner].filter((part) => part).join(".");
  }

  enterField(name: string): void {
    this.#current.name = name;
  }

  pass(punctuation: string): void {
    switch (punctuation) {
      case "{":
      case "[":
        this.#containers.push({ isSecret: this.isSecret, path: this.pathTo(""), name: undefined });
        break;
      case "}":
      case "]":
        if (this.#containers.length > 1) this.#containers.pop();
        break;
      case ",":
        this.#current.name = undefined;
        break;
    }
  }
}
