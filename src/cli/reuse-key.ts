/** The reuse key of `blacktree up`, in a file of the work folder unless the settings have one. */
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BadValue } from "../shared/settings/settings.ts";
import { reuseKeys } from "../worker/settings/reuse-key.ts";

const KEY_BYTES = 32;

/**
 * Makes the file at the first start. The caller is the only process that uses the folder.
 * @throws Error that names the file, when it does not contain a key
 */
export function storedReuseKeys(workDir: string): readonly Buffer[] {
  const path = join(workDir, "reuse-key");
  if (!existsSync(path)) {
    const unfinished = `${path}.new`;
    writeFileSync(unfinished, `${randomBytes(KEY_BYTES).toString("hex")}\n`, { mode: 0o600, flush: true });
    renameSync(unfinished, path);
  }
  try {
    return reuseKeys(readFileSync(path, "utf8").trim());
  } catch (error) {
    if (!(error instanceof BadValue)) throw error;
    const remedy = "remove the file for a new key, or set BLACKTREE_REUSE_KEY";
    throw new Error(`${path} ${error.message}; ${remedy}`, { cause: error });
  }
}
