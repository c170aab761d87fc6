/** The admin API's token that `blacktree up` makes at its first start. Its commands read the same file. */
import { randomBytes } from "node:crypto";
import { existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { adminTokenFile, UP_TOKEN_FILE } from "../shared/settings/admin-token.ts";
import { BadValue } from "../shared/settings/settings.ts";

export interface UpToken {
  readonly path: string;
  readonly token: string;
}

/** Only one `up` at a time works in a work folder. @throws Error when the file exists and cannot be used. */
export function upToken(workDir: string): UpToken {
  const path = join(workDir, UP_TOKEN_FILE);
  if (!existsSync(path)) writeNew(path, `${randomBytes(32).toString("base64url")}\n`);
  try {
    return { path, token: adminTokenFile(path) };
  } catch (error) {
    if (!(error instanceof BadValue)) throw error;
    throw new Error(`${path}: ${error.message}; or remove it, and a new one is made`, { cause: error });
  }
}

/** By rename: a start that is killed leaves no empty file. */
function writeNew(path: string, content: string): void {
  const next = `${path}.new`;
  rmSync(next, { force: true });
  writeFileSync(next, content, { mode: 0o600, flag: "wx" });
  renameSync(next, path);
}
