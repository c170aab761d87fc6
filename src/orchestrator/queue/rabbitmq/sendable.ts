/**
 * Which properties and headers of a received message can be sent again. Other clients can send values that amqplib
 * cannot encode, and more headers than fit into a frame: RabbitMQ closes the connection on a frame that is too long.
 * Sizes are those of AMQP 0-9-1 tables (https://www.rabbitmq.com/amqp-0-9-1-errata), rounded up for numbers.
 */
import type { Options } from "amqplib";

type Headers = Readonly<Record<string, unknown>>;

/** As JSON text: the properties and headers that could not be sent on. */
const UNSENT_HEADER = "x-blacktree-unsent";
const MAX_SHORT_STRING_BYTES = 255;
/** amqplib encodes all headers of a message into a buffer of this size. */
const MAX_HEADER_BYTES = 64 * 1024;
/** Flags, lengths, the frame's own bytes and the headers that are added when the message is published. */
const RESERVED_BYTES = 1024;
const NUMBER_BYTES = 9;
/** The longest AMQP value that is not a string, binary, list or table. */
const TAGGED_BYTES = 9;
const TIMESTAMP_END = 2 ** 64;

/**
 * Options for publishing a message with these properties and the `added` headers, in one frame of `frameMaxBytes`. What
 * does not fit, or cannot be encoded, is added as text in the header `x-blacktree-unsent`, shortened if necessary.
 */
export function sendableOptions(
  { headers = {}, ...properties }: Options.Publish,
  added: Headers,
  frameMaxBytes: number,
): Options.Publish {
  const limitBytes = Math.min(frameMaxBytes, MAX_HEADER_BYTES) - RESERVED_BYTES - tableBytes(added);
  const given = { ...headers };
  for (const name of Object.keys(added)) delete given[name];
  const wholeBytes = propertiesBytes(properties) + tableBytes(given);
  if (wholeBytes <= limitBytes) return { ...properties, headers: { ...given, ...added } };

  const unsentTextBytes = Math.floor(limitBytes / 4);
  const budget = new Budget(limitBytes - unsentTextBytes - UNSENT_HEADER.length - TAGGED_BYTES);
  const sent = budget.select(properties, propertyBytes);
  const sentHeaders = budget.select(given, entryBytes);
  const unsent = { ...without(properties, sent), headers: without(given, sentHeaders) };
  const text = shortened(JSON.stringify(unsent), unsentTextBytes);
  return { ...sent, headers: { ...sentHeaders, [UNSENT_HEADER]: text, ...added } };
}

/** Undefined for a text that cannot be sent as a property such as `correlationId`. */
export function asShortString(value: unknown): string | undefined {
  return typeof value === "string" && Buffer.byteLength(value) <= MAX_SHORT_STRING_BYTES ? value : undefined;
}

/** Cut to a number of bytes in UTF-8. */
export function shortened(text: string, maxBytes: number): string {
  if (Buffer.byteLength(text) <= maxBytes) return text;
  // A character that is cut in two is dropped.
  return new TextDecoder().decode(Buffer.from(text).subarray(0, Math.max(0, maxBytes)), { stream: true });
}

/** Selects entries, in their order, until the bytes are used up. */
class Budget {
  constructor(private leftBytes: number) {}

  select<Values extends object>(
    values: Values,
    bytesOf: (name: string, value: unknown) => number,
  ): Partial<Values> {
    const selected = Object.entries(values).filter(([name, value]) => {
      const bytes = bytesOf(name, value);
      if (bytes > this.leftBytes) return false;
      this.leftBytes -= bytes;
      return true;
    });
    return Object.fromEntries(selected) as Partial<Values>;
  }
}

function without<Values extends object>(values: Values, other: object): Partial<Values> {
  return Object.fromEntries(
    Object.entries(values).filter(([name]) => !Object.hasOwn(other, name)),
  ) as Partial<Values>;
}

function propertiesBytes(properties: object): number {
  return sum(Object.entries(properties).map(([name, value]) => propertyBytes(name, value)));
}

/** Infinite: it cannot be encoded. */
function propertyBytes(name: string, value: unknown): number {
  if (value === undefined) return 0;
  if (name === "timestamp") return isTimestamp(value) ? NUMBER_BYTES : Number.POSITIVE_INFINITY;
  if (typeof value === "number") return NUMBER_BYTES;
  const text = asShortString(value);
  return text === undefined ? Number.POSITIVE_INFINITY : 1 + Buffer.byteLength(text);
}

function tableBytes(table: Headers): number {
  return 4 + sum(Object.entries(table).map(([name, value]) => entryBytes(name, value)));
}

function entryBytes(name: string, value: unknown): number {
  const nameBytes = Buffer.byteLength(name);
  return nameBytes > MAX_SHORT_STRING_BYTES ? Number.POSITIVE_INFINITY : 1 + nameBytes + valueBytes(value);
}

function valueBytes(value: unknown): number {
  if (typeof value === "string") return 5 + Buffer.byteLength(value);
  if (typeof value !== "object" || value === null) return TAGGED_BYTES;
  if (Buffer.isBuffer(value)) return 5 + value.length;
  if (Array.isArray(value)) return 5 + sum(value.map(valueBytes));
  if (Object.hasOwn(value, "!"))
    return taggedBytes(value as { readonly "!": unknown; readonly value?: unknown });
  return 1 + tableBytes(value as Headers);
}

/** amqplib represents values of some types by objects with the key `!`; a sender's table may have that key, too. */
function taggedBytes({ "!": type, value }: { readonly "!": unknown; readonly value?: unknown }): number {
  const isEncodable = type === "timestamp" ? isTimestamp(value) : type === "decimal" && isDecimal(value);
  return isEncodable ? TAGGED_BYTES : Number.POSITIVE_INFINITY;
}

function isTimestamp(value: unknown): boolean {
  return typeof value === "number" && value >= 0 && value < TIMESTAMP_END;
}

function isDecimal(value: unknown): boolean {
  const { places, digits } = Object(value) as { readonly places?: unknown; readonly digits?: unknown };
  return isIn(places, 256) && isIn(digits, 2 ** 32);
}

function isIn(value: unknown, end: number): boolean {
  return Number.isInteger(value) && Number(value) >= 0 && Number(value) < end;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
