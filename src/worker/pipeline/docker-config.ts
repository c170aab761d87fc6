import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { RegistryAccess } from "./registry-access.ts";

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
