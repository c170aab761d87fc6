import { rm } from "node:fs/promises";
import { join } from "node:path";
import { configDirOf, type OwnDockerEngine } from "./docker-engines.ts";

/** Resets an engine: no containers, images, volumes or build cache, and a client without logins. */
export async function resetDockerEngine(engine: OwnDockerEngine): Promise<void> {
  const containers = (await (await engine.request("GET", "/containers/json?all=1")).json()) as {
    Id: string;
  }[];
  for (const { Id } of containers) await engine.request("DELETE", `/containers/${Id}?force=1&v=1`);
  const filter = (name: string, value: string) =>
    `filters=${encodeURIComponent(JSON.stringify({ [name]: [value] }))}`;
  await engine.request("POST", `/images/prune?${filter("dangling", "false")}`);
  await engine.request("POST", "/build/prune?all=1");
  // Engines before 23 prune all volumes, and do not support the filter.
  await engine.request("POST", `/volumes/prune${engine.engine === "20.10" ? "" : `?${filter("all", "1")}`}`);
  const configDir = configDirOf(engine.access.dir);
  await rm(join(configDir, "config.json"), { force: true });
  await rm(join(configDir, "buildx"), { recursive: true, force: true });
  const left = (await (await engine.request("GET", "/images/json?all=1")).json()) as { RepoTags: string[] }[];
  if (left.length > 0) throw new Error(`images are left: ${JSON.stringify(left)}`);
}
