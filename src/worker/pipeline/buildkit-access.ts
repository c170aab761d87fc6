/**
 * Which BuildKit a buildx talks to. buildx keeps a record of each that is not the engine's in its configuration; every
 * run has a configuration of its own, and gets a copy of the record into it. So runs share no file, nothing grows,
 * and nothing has to be there again after a restart: the record is made anew at each start, from the same settings.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";

export interface BuildxRecord {
  readonly name: string;
  /** buildx's own words, for no other program to read. */
  readonly content: string;
}

export interface BuildKitAccess {
  /** How this BuildKit pushes an image by nothing but its digest. */
  output(imageName: string): string;
  /** Makes it the one that buildx takes when it is started with this configuration folder and the variables given back. */
  configure(dockerConfig: string): Promise<Readonly<Record<string, string>>>;
}

/**
 * buildx refuses `push-by-digest` for the docker driver, and pushes a second time through the engine when it reads
 * `push=true` (docker/buildx#3023). BuildKit itself takes `push` without a value for true, and an image without a
 * name gets `<prefix>@<digest>`, which is how it is then pushed.
 */
export const enginesBuildKit: BuildKitAccess = {
  output: (imageName) => `type=image,dangling-name-prefix=${imageName},push=,store=false`,
  configure: async (dockerConfig) => ({ DOCKER_CONFIG: dockerConfig }),
};

/** Keeps no images, so there is nothing to forbid it. */
export function recordedBuildKit({ name, content }: BuildxRecord): BuildKitAccess {
  return {
    output: (imageName) => `type=image,name=${imageName},push-by-digest=true,name-canonical=true,push=true`,
    async configure(dockerConfig) {
      const instances = instancesFolder(dockerConfig);
      await mkdir(instances, { recursive: true, mode: 0o700 });
      await Bun.write(join(instances, name), content, { mode: 0o600 });
      return { DOCKER_CONFIG: dockerConfig, BUILDX_BUILDER: name };
    },
  };
}

/** @throws Error when buildx has made none of this name. */
export async function readBuildxRecord(dockerConfig: string, name: string): Promise<BuildxRecord> {
  return { name, content: await Bun.file(join(instancesFolder(dockerConfig), name)).text() };
}

function instancesFolder(dockerConfig: string): string {
  return join(dockerConfig, "buildx", "instances");
}
