/**
 * Selects the BuildKit that buildx uses. buildx keeps a record of each BuildKit that is not the engine's in its
 * configuration; every run has its own configuration folder, into which the record is copied. So runs share no file,
 * no records accumulate, and none has to survive a restart: the worker creates it at each start from its settings.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { writePrivateFile } from "../job/private-file.ts";

/** Environment variables that docker and buildx read. */
export type DockerVariables = Readonly<Record<string, string>>;

export interface BuildxInstance {
  /** Makes buildx use this instance when it is started with the configuration folder and the returned variables. */
  configure(dockerConfig: string): Promise<DockerVariables>;
}

export const engineInstance: BuildxInstance = {
  configure: async (dockerConfig) => ({ DOCKER_CONFIG: dockerConfig }),
};

/** buildx calls the engine at its start even when it does not need it, and waits for one that does not answer. */
export const NO_ENGINE = { DOCKER_HOST: "unix:///dev/null", DOCKER_TLS_VERIFY: "" };

export interface InstanceRecord {
  readonly name: string;
  /** In buildx's internal format. */
  readonly content: string;
}

export function recordedInstance(record: InstanceRecord, variables: DockerVariables): BuildxInstance {
  return {
    async configure(dockerConfig) {
      const instances = instancesFolder(dockerConfig);
      await mkdir(instances, { recursive: true, mode: 0o700 });
      await writePrivateFile(join(instances, record.name), record.content);
      return { ...variables, DOCKER_CONFIG: dockerConfig, BUILDX_BUILDER: record.name };
    },
  };
}

interface RecordContent {
  readonly Nodes: readonly { readonly DriverOpts?: Readonly<Record<string, string>> | null }[];
}

/**
 * The record with these variables for its BuildKit in a container. As options of `buildx create` they would be in an
 * argument list, and a proxy's URL may contain a password.
 */
export function withContainerVariables(
  { name, content }: InstanceRecord,
  variables: Readonly<Record<string, string>>,
): InstanceRecord {
  const options = Object.fromEntries(Object.entries(variables).map(([key, value]) => [`env.${key}`, value]));
  const record = JSON.parse(content) as RecordContent;
  // An option of the settings takes precedence.
  const Nodes = record.Nodes.map((node) => ({ ...node, DriverOpts: { ...options, ...node.DriverOpts } }));
  return { name, content: JSON.stringify({ ...record, Nodes }) };
}

/** @throws Error when buildx has created no record of this name. */
export async function readInstanceRecord(dockerConfig: string, name: string): Promise<InstanceRecord> {
  return { name, content: await Bun.file(join(instancesFolder(dockerConfig), name)).text() };
}

function instancesFolder(dockerConfig: string): string {
  return join(dockerConfig, "buildx", "instances");
}
