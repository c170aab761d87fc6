import { createHash } from "node:crypto";
import { mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { writePrivateFile } from "../job/private-file.ts";
import type { RegistryAccess } from "../registry/access.ts";
import { authsEntry, authsKey, type DockerLogin } from "../registry/docker-auths.ts";

/**
 * The run's own Docker configuration: of the host's logins it contains only those that settings name, and it is removed
 * with the run's folder. The proxies are those of the build; docker turns them into build arguments.
 */
export class DockerConfig {
  readonly #dir: string;
  readonly #proxies: Readonly<Record<string, string>>;
  #target: RegistryAccess | undefined;
  #bases: ReadonlyMap<string, DockerLogin> = new Map();

  constructor(dir: string, proxies: Readonly<Record<string, string>>) {
    this.#dir = dir;
    this.#proxies = proxies;
  }

  /** The registry that the image is pushed to. */
  setTarget(access: RegistryAccess): Promise<void> {
    this.#target = access;
    return this.#write();
  }

  /** By host. None of them replaces the login of the registry that the image is pushed to. */
  setBaseLogins(bases: ReadonlyMap<string, DockerLogin>): Promise<void> {
    this.#bases = bases;
    return this.#write();
  }

  /** The file is replaced as a whole, since docker may read it at any time; a removed folder is not created again. */
  async #write(): Promise<void> {
    const auths = new Map([...this.#bases].map(([host, login]) => [authsKey(host), authsEntry(login)]));
    const { host = "", credentials } = this.#target ?? {};
    auths.delete(authsKey(host));
    if (credentials) auths.set(authsKey(host), authsEntry(credentials));
    const next = join(this.#dir, "config.json.next");
    await writePrivateFile(
      next,
      JSON.stringify({ auths: Object.fromEntries(auths), proxies: { default: this.#proxies } }),
    );
    await rename(next, join(this.#dir, "config.json"));
  }
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
