/**
 * Decodes Git LFS pointers by the rules of git-lfs, which accepts more than it writes: old versions, line ends of
 * Windows, a missing last newline.
 */

export interface Pointer {
  readonly oid: string;
  readonly size: number;
  /** In the order of their priorities. */
  readonly extensions: readonly Extension[];
}

/** A program that has changed the content before git-lfs stored it. */
export interface Extension {
  readonly priority: string;
  readonly name: string;
  readonly oid: string;
}

/** Git-lfs reads no more of a file. */
export const MAX_POINTER_BYTES = 1024;

const LATEST_VERSION = "https://git-lfs.github.com/spec/v1";
const VERSIONS: ReadonlySet<string> = new Set([
  "http://git-media.io/v/2",
  "https://hawser.github.com/spec/v1",
  LATEST_VERSION,
]);
/** In this order; lines with extensions may be anywhere before the last one. */
const KEYS = ["version", "oid", "size"];
const EXTENSION = /^ext-(\d)-(\w.*)$/s;
const OID = /^sha256:([0-9a-f]{64})$/;
const SIZE = /^[+-]?\d+$/;
const MAX_SIZE = 2n ** 63n - 1n;
const OUTER_SPACE = /^\p{White_Space}+|\p{White_Space}+$/gu;
// A byte order mark is a part of the first key, which is then not valid.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** `content` is the beginning of a file. Undefined when it is not a pointer. */
export function decodePointer(content: Uint8Array): Pointer | undefined {
  const lines = linesOf(content);
  const values = valuesOf(lines);
  if (values === undefined) return undefined;
  const [version = "", oid = "", size = ""] = values;
  const hash = OID.exec(oid)?.[1];
  const bytes = sizeOf(size);
  const extensions = extensionsOf(lines);
  if (!VERSIONS.has(version) || hash === undefined || bytes === undefined || extensions === undefined)
    return undefined;
  return { oid: hash, size: bytes, extensions };
}

/** As git-lfs writes it. */
export function encodePointer({ oid, size, extensions }: Pointer): string {
  const lines = extensions.map((one) => `ext-${one.priority}-${one.name} sha256:${one.oid}`);
  return [`version ${LATEST_VERSION}`, ...lines, `oid sha256:${oid}`, `size ${size}`, ""].join("\n");
}

type Line = readonly [key: string, value: string];

/** A line without a value has the value undefined. */
function linesOf(content: Uint8Array): (Line | undefined)[] {
  const text = decoder.decode(content.subarray(0, MAX_POINTER_BYTES)).replace(OUTER_SPACE, "");
  return text
    .split("\n")
    .map((line) => line.replace(/\r$/, ""))
    .filter((line) => line !== "")
    .map((line) => {
      const space = line.indexOf(" ");
      return space < 0 ? undefined : [line.slice(0, space), line.slice(space + 1)];
    });
}

/** Of the keys, or undefined when other lines are between or after them. */
function valuesOf(lines: readonly (Line | undefined)[]): string[] | undefined {
  const values: string[] = [];
  for (const line of lines) {
    if (line === undefined || values.length === KEYS.length) return undefined;
    const [key, value] = line;
    if (key === KEYS[values.length]) values.push(value);
    else if (!EXTENSION.test(key)) return undefined;
  }
  return values;
}

/** Undefined when one has no valid hash, or two have the same priority. */
function extensionsOf(lines: readonly (Line | undefined)[]): Extension[] | undefined {
  const byPriority = new Map<string, Extension>();
  for (const [key, value] of lines.filter((line) => line !== undefined)) {
    const [, priority, name] = EXTENSION.exec(key) ?? [];
    if (priority === undefined || name === undefined) continue;
    // The last of several equal lines counts.
    if (byPriority.has(priority) && byPriority.get(priority)?.name !== name) return undefined;
    byPriority.set(priority, { priority, name, oid: OID.exec(value)?.[1] ?? "" });
  }
  const extensions = [...byPriority.values()].sort((one, other) => (one.priority < other.priority ? -1 : 1));
  return extensions.every(({ oid }) => oid !== "") ? extensions : undefined;
}

function sizeOf(value: string): number | undefined {
  if (!SIZE.test(value)) return undefined;
  const size = BigInt(value.replace(/^\+/, ""));
  return size >= 0n && size <= MAX_SIZE ? Number(size) : undefined;
}
