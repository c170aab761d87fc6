import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { HostEnvironment } from "../../process/child-environment.ts";
import type { ImageBuilder } from "../builder.ts";
import { DockerLook } from "./docker-probe.ts";
import { engineBuilder } from "./engine.ts";
import type { BuilderPlace } from "./location.ts";
import { ownBuildKitBuilder } from "./standalone.ts";

export interface DetectBuilderOptions {
  readonly hostEnvironment: HostEnvironment;
  /** For a short-lived folder; and workers on one work folder share a BuildKit in a container. */
  readonly workDir: string;
  readonly place: BuilderPlace;
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
    const { place, ...rest } = { ...options, scratch };
    if (place.kind !== "engine") return await ownBuildKitBuilder({ ...rest, place });
    return await engineBuilder(new DockerLook(rest), rest);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}
