import { createHash } from "node:crypto";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { RegistryAccess } from "../registry/access.ts";

/**
 * The run's own docker configuration: nothing of the host's logins is in it, and it goes with the run's folder.
 * The proxies are the build's own; docker makes build arguments of them.
 * Replaced as a whole, since docker may read it at any time; a folder that is gone is not made again.
 */
export async function writeDockerConfig(
  dockerConfigDir: string,
  access: RegistryAccess,
  proxies: Readonly<Record<string, string>>,
): Promise<void> {
  const { credentials, host } = access;
  const auths = credentials && {
    [host]: { auth: Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64") },
  };
  const next = join(dockerConfigDir, "config.json.next");
  await writeFile(next, JSON.stringify({ auths, proxies: { default: proxies } }), { mode: 0o600 });
  await rename(next, join(dockerConfigDir, "config.json"));
}

/**
 * BuildKit keeps what it was sent of a context, by the folder's name and buildx's id of the machine, and next time is
 * sent only files of another size or time. So that id stands for one checkout with its history, and for the folders
 * in it, not for what the job calls them: two files of one name in two folders may have the same size and time, and then
 * the wrong one would be built.
 */
export async function nameBuildContext(dockerConfigDir: string, parts: readonly string[]): Promise<void> {
  const id = createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 32);
  const folder = join(dockerConfigDir, "buildx");
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await Bun.write(join(folder, ".buildNodeID"), id);
}
