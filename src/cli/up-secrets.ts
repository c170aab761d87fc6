/** The secrets that `blacktree up` makes at its first start, each in a file of its work folder. */
import { randomBytes } from "node:crypto";
import { existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { adminTokenFile, UP_TOKEN_FILE } from "../shared/settings/admin-token.ts";
import { secretFile } from "../shared/settings/parsers.ts";
import { BadValue, type Parser } from "../shared/settings/settings.ts";
import { reuseKeys } from "../worker/settings/reuse-key.ts";

const SECRET_BYTES = 32;

/** The message names the file and the remedy. */
export class UnusableSecret extends Error {
  override readonly name = "UnusableSecret";
}

export interface StoredSecret<T> {
  readonly path: string;
  readonly value: T;
}

/** Of the admin API; the commands read the same file. @throws UnusableSecret */
export function storedToken(workDir: string): StoredSecret<string> {
  return stored(join(workDir, UP_TOKEN_FILE), "base64url", adminTokenFile);
}

/** @throws UnusableSecret */
export function storedReuseKeys(workDir: string): StoredSecret<readonly Buffer[]> {
  return stored(join(workDir, "reuse-key"), "hex", secretFile(reuseKeys));
}

/** Makes the file at the first start. The caller is the only process that uses the folder. */
function stored<T>(path: string, encoding: "base64url" | "hex", read: Parser<T>): StoredSecret<T> {
  if (!existsSync(path)) writeNew(path, `${randomBytes(SECRET_BYTES).toString(encoding)}\n`);
  try {
    return { path, value: read(path) };
  } catch (error) {
    if (!(error instanceof BadValue)) throw error;
    throw new UnusableSecret(`${path} ${error.message}; or remove it, and a new one is made`, {
      cause: error,
    });
  }
}

/** By rename: a start that is killed leaves no empty file. */
function writeNew(path: string, content: string): void {
  const next = `${path}.new`;
  rmSync(next, { force: true });
  writeFileSync(next, content, { mode: 0o600, flag: "wx", flush: true });
  renameSync(next, path);
}
