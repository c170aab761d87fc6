/** The Docker that the trial builds and runs with. */

import { type FinishedProcess, type RunOptions, run } from "../support/machine/processes.ts";
import { type DockerEngineName, startDockerEngine } from "../support/servers/docker-engines.ts";

export interface Engine {
  readonly description: string;
  /** What a program needs to use it. */
  readonly env: Record<string, string | undefined>;
  docker(args: readonly string[], options?: RunOptions): Promise<FinishedProcess>;
  stop(): Promise<void>;
}

/** The registry of the trial is on this machine's loopback, which an engine elsewhere does not reach. */
function isElsewhere(): boolean {
  const host = process.env.DOCKER_HOST;
  return host !== undefined && host !== "" && !host.startsWith("unix://");
}

async function runningVersion(): Promise<string | undefined> {
  if (isElsewhere() || Bun.which("docker") === null) return undefined;
  const asked = await run(["docker", "version", "--format", "{{.Server.Version}}"], { mayFail: true });
  return asked.exitCode === 0 ? asked.stdout.trim() : undefined;
}

/** The engine that runs here and lets this user in. */
export async function runningEngine(): Promise<Engine | undefined> {
  const version = await runningVersion();
  if (version === undefined) return undefined;
  return {
    description: `the Docker Engine ${version} that runs here`,
    env: {},
    docker: (args, options) => run(["docker", ...args], options),
    stop: async () => undefined,
  };
}

/** Of the two generations that tests/support can start, the one that needs no more than what is installed. */
async function installedGeneration(): Promise<DockerEngineName> {
  const { stdout } = await run(["dockerd", "--version"]);
  return /version v?20\.10\./.test(stdout) ? "20.10" : "26.1";
}

/** A daemon in a folder of its own, that ends with the trial and leaves nothing. */
export async function privateEngine(): Promise<Engine> {
  const engine = await startDockerEngine({ engine: await installedGeneration() });
  return {
    description: `a Docker Engine ${engine.version} of its own, for as long as this takes`,
    env: engine.env(),
    docker: (args, options) => engine.docker(args, options),
    stop: () => engine.stop(),
  };
}
