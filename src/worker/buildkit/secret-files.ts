import { mkdir } from "node:fs/promises";
import { basename, join } from "node:path";
import type { BuildRequest } from "./builder.ts";

type Secrets = Pick<BuildRequest, "job" | "workspace">;

/** In files of the run's own folder: an argument list can be read by everybody, and an environment is short. */
export async function writeSecrets({ job, workspace }: Secrets): Promise<void> {
  await mkdir(workspace.secrets, { mode: 0o700 });
  for (const [name, value] of Object.entries(job.secrets)) {
    await Bun.write(join(workspace.secrets, name), value, { mode: 0o600 });
  }
}

/** Relative to the run's folder: this is comma separated, and the way there may hold a comma. */
export function secretArguments({ job, workspace }: Secrets): string[] {
  const folder = basename(workspace.secrets);
  return Object.keys(job.secrets).map((name) => `--secret=id=${name},src=${folder}/${name}`);
}
