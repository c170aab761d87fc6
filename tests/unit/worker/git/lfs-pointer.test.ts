/** The expectations are what git-lfs 3.3 does with the same files. */
import { describe, expect, test } from "bun:test";
import { decodePointer, encodePointer } from "../../../../src/worker/git/lfs-pointer.ts";

const OID = "a".repeat(64);
const VERSION = "version https://git-lfs.github.com/spec/v1";
const pointer = (size: string, more = "") => `${VERSION}\n${more}oid sha256:${OID}\nsize ${size}\n`;
const extension = (name: string, oid = `sha256:${OID}`) => `ext-${name} ${oid}\n`;
const versioned = (version: string) => pointer("5").replace(VERSION, `version ${version}`);

const decoded = (content: string | Uint8Array) => decodePointer(Buffer.from(content as string));

describe("a pointer is", () => {
  const POINTERS: [what: string, content: string | Uint8Array, size?: number][] = [
    ["what git-lfs writes", pointer("5")],
    ["one with line ends of Windows", pointer("5").replaceAll("\n", "\r\n")],
    ["one with mixed line ends", pointer("5").replace("\n", "\r\n")],
    ["one without its last newline", pointer("5").trimEnd()],
    ["one with empty lines", pointer("5").replaceAll("\n", "\n\r\n\n")],
    ["one within spaces", ` \n\u00a0${pointer("5")}\u3000 \n`],
    ["one of the first versions", versioned("https://hawser.github.com/spec/v1")],
    ["one of the very first version", versioned("http://git-media.io/v/2")],
    ["one with a plus sign", pointer("+5")],
    ["one with leading zeros", pointer("005")],
    ["one of size 0", pointer("0"), 0],
    ["one of size -0", pointer("-0"), 0],
    ["one of the largest size", pointer("9223372036854775807"), 2 ** 63],
    ["one that is followed by spaces beyond the limit", pointer("5") + "\n".repeat(5000)],
    ["one that is followed by text beyond the limit", `${pointer("5")}${" ".repeat(1000)}text`],
  ];
  test.each(POINTERS)("%s", (_what, content, size = 5) => {
    expect(decoded(content)).toEqual({ oid: OID, size, extensions: [] });
  });

  const EXTENSIONS: [what: string, content: string, names: string[]][] = [
    ["extensions", pointer("5", extension("1-b-r") + extension("0-foo")), ["foo", "b-r"]],
    ["an extension in front of it", extension("0-foo") + pointer("5"), ["foo"]],
    ["an extension twice", pointer("5", extension("0-foo", "x") + extension("0-foo")), ["foo"]],
  ];
  test.each(EXTENSIONS)("one with %s", (_what, content, names) => {
    const extensions = names.map((name, index) => ({ priority: String(index), name, oid: OID }));
    expect(decoded(content)).toEqual({ oid: OID, size: 5, extensions });
  });
});

describe("a pointer is not", () => {
  const OTHERS: [what: string, content: string | Uint8Array][] = [
    ["a text", "hello\n"],
    ["white space", " \n"],
    ["one with a byte order mark", `\ufeff${pointer("5")}`],
    ["one in UTF-16", Buffer.from(pointer("5"), "utf16le")],
    ["one with line ends of old Macs", pointer("5").replaceAll("\n", "\r")],
    ["one of an unknown version", versioned("https://git-lfs.github.com/spec/v2")],
    ["one of an unknown URL", versioned("http://git-lfs.github.com/spec/v1")],
    ["one with two versions", `${VERSION}\n${pointer("5")}`],
    ["one with another order", `${VERSION}\nsize 5\noid sha256:${OID}\n`],
    ["one with a hash in upper case", pointer("5").replace(OID, OID.toUpperCase())],
    ["one with a short hash", pointer("5").replace(OID, OID.slice(1))],
    ["one with another hash", pointer("5").replace("sha256", "md5")],
    ["one with a space behind the hash", pointer("5").replace(OID, `${OID} `)],
    ["one with two spaces", pointer("5").replace("oid ", "oid  ")],
    ["one with an indented line", pointer("5").replace("oid", " oid")],
    ["one with a tab", pointer("5").replace("size ", "size\t")],
    ["one with another key", pointer("5", "key value\n")],
    ["one with a key behind it", `${pointer("5")}key value\n`],
    ["one with an extension behind it", pointer("5") + extension("0-foo")],
    ["one with an extension without a hash", pointer("5", extension("0-foo", "x"))],
    ["one with two extensions of one priority", pointer("5", extension("0-a") + extension("0-b"))],
    ["one with an extension of priority 12", pointer("5", extension("12-foo"))],
    ["one without a size", pointer("5").replace("size 5\n", "")],
    ["one with a negative size", pointer("-5")],
    ["one with a hexadecimal size", pointer("0x5")],
    ["one with a fraction", pointer("5.0")],
    ["one with a separator", pointer("5_0")],
    ["one of a size beyond 64 bits", pointer("9223372036854775808")],
    ["one with a NUL", `${pointer("5")}\0`],
    ["one with contents behind it", pointer("5") + "x".repeat(5000)],
  ];
  test.each(OTHERS)("%s", (_what, content) => {
    expect(decoded(content)).toBeUndefined();
  });
});

test("a pointer is written as git-lfs writes it", () => {
  const canonical = pointer("5", extension("0-foo") + extension("1-b-r"));
  const written = pointer("+05", extension("1-b-r") + extension("0-foo")).replaceAll("\n", "\r\n");
  for (const content of [canonical, written]) {
    const found = decoded(content);
    expect(found && encodePointer(found)).toBe(canonical);
  }
});
