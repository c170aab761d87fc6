import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { HostEnvironment } from "../../process/child-environment.ts";
import type { ImageBuilder } from "../builder.ts";
import { DockerProbe } from "./docker-probe.ts";
import { engineBuilder } from "./engine.ts";
import type { BuilderLocation } from "./location.ts";
import { standaloneBuilder } from "./standalone.ts";

export interface DetectBuilderOptions {
  readonly hostEnvironment: HostEnvironment;
  /** For a short-lived folder; and workers on one work folder share a BuildKit in a container. */
  readonly workDir: string;
  readonly location: BuilderLocation;
  /** `name=value`, for buildx's driver. */
  readonly driverOptions: readonly string[];
  /** RUN steps have to run in a control group, which takes an engine that can. */
  readonly inCgroup?: boolean;
  readonly signal: AbortSignal;
}

/**
 * Looks once which way of building there is at the place that the settings name.
 * @throws NoUsableBuilder when there is none, which may change.
 */
export async function detectBuilder(options: DetectBuilderOptions): Promise<ImageBuilder> {
  await mkdir(options.workDir, { recursive: true });
  const scratch = await mkdtemp(join(options.workDir, "detect-"));
  try {
    const { location, ...rest } = { ...options, scratch };
    if (location.kind !== "engine") return await standaloneBuilder({ ...rest, location });
    return await engineBuilder(new DockerProbe(rest), rest);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}
