import { mkdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { writePrivateFile } from "../job/private-file.ts";
import type { BuildRequest } from "./builder.ts";

type Secrets = Pick<BuildRequest, "job" | "workspace">;

/** In files of the run's own folder: every user can read an argument list, and an environment is limited in size. */
export async function writeSecrets({ job, workspace }: Secrets): Promise<void> {
  await mkdir(workspace.secrets, { mode: 0o700 });
  for (const [name, value] of Object.entries(job.secrets)) {
    await writePrivateFile(join(workspace.secrets, name), value);
  }
}

/** Paths relative to the run's folder: the list is comma separated, and an absolute path may contain a comma. */
export function secretSources({ job, workspace }: Secrets): string[] {
  const folder = basename(workspace.secrets);
  return Object.keys(job.secrets).map((name) => `id=${name},src=${folder}/${name}`);
}
