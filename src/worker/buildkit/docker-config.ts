import { createHash } from "node:crypto";
import { mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { writePrivateFile } from "../job/private-file.ts";
import type { RegistryAccess } from "../registry/access.ts";

/**
 * The run's own Docker configuration: it contains none of the host's logins, and is removed with the run's folder.
 * The proxies are those of the build; docker turns them into build arguments.
 * The file is replaced as a whole, since docker may read it at any time; a removed folder is not created again.
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
  await writePrivateFile(next, JSON.stringify({ auths, proxies: { default: proxies } }));
  await rename(next, join(dockerConfigDir, "config.json"));
}

/**
 * BuildKit keeps the files that it received of a context, by the folder's name and buildx's node id, and the next build
 * sends only files of another size or time. So the node id is made of the checkout with its history and of the real
 * folders in it, not of the job's names for them: two files of one name in two folders may have the same size and time,
 * and then the wrong one would be built.
 */
export async function nameBuildContext(dockerConfigDir: string, parts: readonly string[]): Promise<void> {
  const id = createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 32);
  const folder = join(dockerConfigDir, "buildx");
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await Bun.write(join(folder, ".buildNodeID"), id);
}
