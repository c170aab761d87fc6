/**
 * Which BuildKit a buildx talks to. buildx keeps a record of each that is not the engine's in its configuration; every
 * run has a configuration of its own, and gets a copy of the record into it. So runs share no file, nothing grows,
 * and nothing has to be there again after a restart: the record is made anew at each start, from the same settings.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";

/** Of docker's and buildx's own. */
export type DockerVariables = Readonly<Record<string, string>>;

export interface BuildxInstance {
  /** Makes it the one that buildx takes when it is started with this configuration folder and the variables given back. */
  configure(dockerConfig: string): Promise<DockerVariables>;
}

export const engineInstance: BuildxInstance = {
  configure: async (dockerConfig) => ({ DOCKER_CONFIG: dockerConfig }),
};

/** buildx asks the engine at its start even when it has nothing to do there, and waits for one that does not answer. */
export const NO_ENGINE = { DOCKER_HOST: "unix:///dev/null", DOCKER_TLS_VERIFY: "" };

export interface InstanceRecord {
  readonly name: string;
  /** buildx's own words, for no other program to read. */
  readonly content: string;
}

export function recordedInstance(record: InstanceRecord, variables: DockerVariables): BuildxInstance {
  return {
    async configure(dockerConfig) {
      const instances = instancesFolder(dockerConfig);
      await mkdir(instances, { recursive: true, mode: 0o700 });
      await Bun.write(join(instances, record.name), record.content, { mode: 0o600 });
      return { ...variables, DOCKER_CONFIG: dockerConfig, BUILDX_BUILDER: record.name };
    },
  };
}

/** @throws Error when buildx has made none of this name. */
export async function readInstanceRecord(dockerConfig: string, name: string): Promise<InstanceRecord> {
  return { name, content: await Bun.file(join(instancesFolder(dockerConfig), name)).text() };
}

function instancesFolder(dockerConfig: string): string {
  return join(dockerConfig, "buildx", "instances");
}
