/** Parsers of single settings. Each throws BadValue with the problem and the expected value. */
import { accessSync, closeSync, constants, fstatSync, openSync, readFileSync, statSync } from "node:fs";
import { isIP } from "node:net";
import { dirname } from "node:path";
import { BadValue, type Parser } from "./settings.ts";

export const text: Parser<string> = (raw) => raw;

export const flag: Parser<boolean> = (raw) => {
  if (/^(true|1|yes|on)$/i.test(raw)) return true;
  if (/^(false|0|no|off)$/i.test(raw)) return false;
  throw new BadValue("is neither true nor false", "true or false");
};

export function integer(min: number, max: number): Parser<number> {
  return (raw) => {
    const value = Number(raw);
    if (/^\d+$/.test(raw) && value >= min && value <= max) return value;
    throw new BadValue("is not a whole number in range", `a whole number from ${min} to ${max}`);
  };
}

/** The value, or the word `off`. */
export function orOff<T>(parse: Parser<T>): Parser<T | "off"> {
  return (raw) => (raw === "off" ? "off" : parse(raw));
}

export function oneOf<const Value extends string>(...values: readonly Value[]): Parser<Value> {
  return (raw) => {
    const value = values.find((candidate) => candidate === raw);
    if (value !== undefined) return value;
    throw new BadValue("is not one of the accepted values", values.join(", "));
  };
}

const DURATION_UNITS_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** Milliseconds. */
export function duration(minMs: number, maxMs: number): Parser<number> {
  const range = `a duration from ${formatDuration(minMs)} to ${formatDuration(maxMs)}, such as 500ms, 2s, 30m, 24h, 7d`;
  return (raw) => {
    const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(raw);
    if (!match) throw new BadValue("is not a valid duration", range);
    const valueMs = Number(match[1]) * DURATION_UNITS_MS[match[2] as keyof typeof DURATION_UNITS_MS];
    if (valueMs < minMs || valueMs > maxMs) throw new BadValue("is out of range", range);
    return Math.round(valueMs);
  };
}

function formatDuration(durationMs: number): string {
  if (durationMs === 0) return "0s";
  const units = Object.entries(DURATION_UNITS_MS).toReversed();
  const [unit, unitMs] = units.find(([, sizeMs]) => durationMs % sizeMs === 0) ?? ["ms", 1];
  return `${durationMs / unitMs}${unit}`;
}

const SIZE_UNITS_BYTES: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** Bytes. Zero needs no unit. */
export const size: Parser<number> = (raw) => {
  if (raw === "0") return 0;
  const match = /^(\d+(?:\.\d+)?) ?([A-Za-z]+)$/.exec(raw);
  const unitBytes = SIZE_UNITS_BYTES[match?.[2] ?? ""];
  if (unitBytes !== undefined) return Math.round(Number(match?.[1]) * unitBytes);
  throw new BadValue(
    "is not a valid size",
    `a size such as 500MB, 10GB or 2GiB (${Object.keys(SIZE_UNITS_BYTES).join(", ")}), or 0`,
  );
};

/** At least `min`, a size such as `1MB`. */
export function sizeFrom(min: string): Parser<number> {
  return (raw) => {
    const bytes = size(raw);
    if (bytes >= size(min)) return bytes;
    throw new BadValue("is too small", `${min} or more`);
  };
}

/** An absolute path of a folder that this process can write to, or create. Creates nothing. */
export const writableFolder: Parser<string> = (raw) => {
  if (!raw.startsWith("/")) throw new BadValue("has the wrong format", "an absolute path");
  for (let path = raw; ; path = dirname(path)) {
    const problem = folderProblem(path);
    if (problem === undefined) return raw;
    if (problem === "ENOENT" && path !== "/") continue;
    const subject = path === raw ? "is" : `does not exist, and ${path} is`;
    const user = `uid ${process.getuid?.()}`;
    throw new BadValue(
      `${subject} not a folder that this process can write to (${problem})`,
      `a folder that the user of this process (${user}) can write to`,
    );
  }
};

function folderProblem(path: string): string | undefined {
  try {
    if (!statSync(path).isDirectory()) return "ENOTDIR";
    accessSync(path, constants.W_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** `host:port`, with an IPv6 host in brackets. Port 0 selects a free port. */
export const hostPort: Parser<HostPort> = (raw) => {
  const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(raw);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host !== undefined && port <= 65_535 && (match?.[1] === undefined || isIP(host) === 6))
    return { host, port };
  throw new BadValue("is not a valid address", "host:port, such as 127.0.0.1:8080 or [::1]:8080");
};

export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Whether only processes on this machine can connect to `host`. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

export function commaSeparated<T>(parse: Parser<T>): Parser<readonly T[]> {
  return (raw) =>
    raw
      .split(",")
      .map((part) => part.trim())
      .filter((part) => part !== "")
      .map(parse);
}

const ENCODING_HINT =
  "in a user name or password, write % as %25, / as %2F, ? as %3F, # as %23, @ as %40, a comma as %2C and a space as %20";

/** A URL of one of the given schemes, as text. Its user name and password can be decoded. */
export function url(...schemes: readonly string[]): Parser<string> {
  const expected = `a URL that starts with ${schemes.map((scheme) => `${scheme}://`).join(" or ")}`;
  const encoded = `${expected}; ${ENCODING_HINT}`;
  return (raw) => {
    const parsed = URL.parse(raw);
    if (/\s/.test(raw)) throw new BadValue("contains a space", encoded);
    if (!parsed) throw new BadValue("is not a valid URL", encoded);
    if (!canDecode(parsed)) throw new BadValue("contains a % that begins no escape", encoded);
    if (!schemes.includes(parsed.protocol.slice(0, -1)))
      throw new BadValue("has an unsupported scheme", expected);
    if (parsed.hostname === "") throw new BadValue("has no host", expected);
    return raw;
  };
}

function canDecode({ username, password, pathname }: URL): boolean {
  try {
    return [username, password, pathname].every((part) => typeof decodeURIComponent(part) === "string");
  } catch {
    return false;
  }
}

export function matching(pattern: RegExp, expected: string): Parser<string> {
  return (raw) => {
    if (pattern.test(raw)) return raw;
    throw new BadValue("has the wrong format", expected);
  };
}

/** The name of a worker region: part of a queue's name, so it has no dots. */
export const REGION_PATTERN = /^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/;
export const region = matching(REGION_PATTERN, "1 to 63 letters, digits, - and _, such as us-east-1");

/** A PEM file's content, read at start, so that a wrong path is reported as a wrong setting. */
export const pemFile: Parser<Buffer> = (raw) => {
  let content: Buffer;
  try {
    content = readFileSync(raw);
  } catch (error) {
    throw new BadValue(`cannot be read (${(error as NodeJS.ErrnoException).code})`, "the path of a PEM file");
  }
  if (content.includes("-----BEGIN ")) return content;
  throw new BadValue("contains no PEM block", "the path of a PEM file");
};

/** Read by other users, or written by anyone but the owner. A systemd credential is readable by its group (0440). */
const UNSAFE_MODE = 0o027;

/** A secret that is the content of a file, read at start. The file's permissions must keep other users away from it. */
export function secretFile<T>(parse: Parser<T>): Parser<T> {
  return (path) => {
    const content = readSecret(path).trim();
    try {
      return parse(content);
    } catch (error) {
      if (!(error instanceof BadValue)) throw error;
      throw new BadValue(`has a content that ${error.wrong}`, error.expected);
    }
  };
}

function readSecret(path: string): string {
  let file: number | undefined;
  try {
    file = openSync(path, "r");
    const mode = fstatSync(file).mode & 0o777;
    if (mode & UNSAFE_MODE) {
      const octal = mode.toString(8).padStart(4, "0");
      throw new BadValue(
        `can be read or changed by other users (mode ${octal})`,
        `a file that only its owner can read, and its group at most: chmod 600 ${path}`,
      );
    }
    return readFileSync(file, "utf8");
  } catch (error) {
    if (error instanceof BadValue) throw error;
    const { code } = error as NodeJS.ErrnoException;
    throw new BadValue(
      `cannot be read (${code})`,
      "the path of a file that this user can read, of mode 0600",
    );
  } finally {
    if (file !== undefined) closeSync(file);
  }
}
