import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { HostEnvironment } from "../../process/child-environment.ts";
import type { BuildNetwork, ImageBuilder } from "../builder.ts";
import { DockerProbe } from "./docker-probe.ts";
import { engineBuilder } from "./engine.ts";
import type { BuilderLocation } from "./location.ts";
import { standaloneBuilder } from "./standalone.ts";

export interface DetectBuilderOptions {
  readonly hostEnvironment: HostEnvironment;
  /** Workers with the same work folder share one BuildKit in a container. */
  readonly workDir: string;
  /** In which a temporary folder is made. */
  readonly scratchParent: string;
  readonly location: BuilderLocation;
  /** `name=value`, for buildx's driver. */
  readonly driverOptions: readonly string[];
  /** RUN steps have to run in a control group, which only some engines support. */
  readonly inCgroup?: boolean;
  /** With `none`, BuildKit has to deny sources, which only some versions can. */
  readonly network?: BuildNetwork;
  readonly signal: AbortSignal;
}

/**
 * Detects once which builder works at the location that the settings name.
 * @throws NoUsableBuilder when none does; a later call may succeed.
 */
export async function detectBuilder(options: DetectBuilderOptions): Promise<ImageBuilder> {
  const scratch = await mkdtemp(join(options.scratchParent, "detect-"));
  try {
    const { location, ...rest } = { ...options, scratch };
    if (location.kind !== "engine") return await standaloneBuilder({ ...rest, location });
    return await engineBuilder(await DockerProbe.create(rest), rest);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}
