/** Reads the archive of an image's layer. Names are bytes: one character stands for one byte. */

export interface TarEntry {
  readonly path: string;
  /** The type flag of the format. */
  readonly type: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly linkTarget: string;
  /** Extended attributes, and other records of the pax format without a field above. */
  readonly attributes: Readonly<Record<string, string>>;
  readonly content: Uint8Array;
}

const BLOCK_BYTES = 512;
const PAX_OF_NEXT = "x";
const PAX_OF_ALL = "g";
const REGULAR = "0";
const FIELDS_OF_PAX = new Set([
  "path",
  "linkpath",
  "size",
  "uid",
  "gid",
  "mtime",
  "atime",
  "ctime",
  "uname",
  "gname",
]);

const textAt = (header: Buffer, start: number, length: number) => {
  const field = header.subarray(start, start + length);
  const end = field.indexOf(0);
  return field.subarray(0, end < 0 ? length : end).toString("latin1");
};

function numberAt(header: Buffer, start: number, length: number): number {
  const isBinary = ((header[start] ?? 0) & 0x80) !== 0;
  if (isBinary) return Number(BigInt(`0x${header.subarray(start + 1, start + length).toString("hex")}`));
  return Number.parseInt(textAt(header, start, length).trim() || "0", 8);
}

/** Each record is `<length> <name>=<value>\n`; the length counts all of it. */
function paxRecords(body: Buffer): Record<string, string> {
  const records: Record<string, string> = {};
  for (let start = 0; start < body.length; ) {
    const space = body.indexOf(" ", start);
    const end = start + Number.parseInt(body.subarray(start, space).toString(), 10);
    const record = body.subarray(space + 1, end - 1).toString("latin1");
    const equals = record.indexOf("=");
    records[record.slice(0, equals)] = record.slice(equals + 1);
    start = end;
  }
  return records;
}

export function readTar(archive: Uint8Array): TarEntry[] {
  const buffer = Buffer.from(archive.buffer, archive.byteOffset, archive.byteLength);
  const entries: TarEntry[] = [];
  let pax: Record<string, string> = {};
  for (let at = 0; at + BLOCK_BYTES <= buffer.length && buffer[at] !== 0; ) {
    const header = buffer.subarray(at, at + BLOCK_BYTES);
    const type = textAt(header, 156, 1) || REGULAR;
    const size = Number(pax.size ?? numberAt(header, 124, 12));
    const content = buffer.subarray(at + BLOCK_BYTES, at + BLOCK_BYTES + size);
    at += BLOCK_BYTES + Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES;
    if (type === PAX_OF_ALL) throw new Error("a layer with a global pax header is not supported");
    if (type === PAX_OF_NEXT) {
      pax = paxRecords(content);
      continue;
    }
    entries.push(entryOf(header, type, pax, content));
    pax = {};
  }
  return entries;
}

function entryOf(header: Buffer, type: string, pax: Record<string, string>, content: Uint8Array): TarEntry {
  const prefix = textAt(header, 257, 6) === "ustar" ? textAt(header, 345, 155) : "";
  const name = textAt(header, 0, 100);
  const path = pax.path ?? (prefix ? `${prefix}/${name}` : name);
  const attributes = Object.entries(pax).filter(([key]) => !FIELDS_OF_PAX.has(key));
  return {
    path: path.replace(/^\.?\/+|\/+$/g, ""),
    type,
    mode: numberAt(header, 100, 8),
    uid: Number(pax.uid ?? numberAt(header, 108, 8)),
    gid: Number(pax.gid ?? numberAt(header, 116, 8)),
    linkTarget: pax.linkpath ?? textAt(header, 157, 100),
    attributes: Object.fromEntries(attributes),
    content,
  };
}
