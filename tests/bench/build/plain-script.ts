/** The plain script on a separate host: a home folder, an engine, and no part of Blacktree. */
import { mkdir, readFile, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { ECRClient, GetAuthorizationTokenCommand } from "@aws-sdk/client-ecr";
import { run } from "../../support/machine/processes.ts";
import { makeTempDir } from "../../support/machine/temp-dir.ts";
import type { Aws } from "../../support/servers/aws.ts";
import type { DockerEngine } from "../../support/servers/docker-engines.ts";
import { findDockerPrograms } from "../../support/servers/docker-programs.ts";
import type { Registry } from "../../support/servers/registry.ts";
import type { Measurement } from "./measurement.ts";

export interface ScriptJob {
  readonly repositoryUrl: string;
  readonly branch: string;
  readonly ecrRepo: string;
  readonly version: string;
}

export interface ScriptRun extends Measurement {
  /** As `docker push` printed it. */
  readonly digest: string;
}

export interface PlainScript {
  readonly engine: DockerEngine;
  run(job: ScriptJob): Promise<ScriptRun>;
  stop(): Promise<void>;
}

const SCRIPT = join(import.meta.dir, "plain-script.sh");
const TIMEOUT_MS = 600_000;

export async function plainScriptHost(
  engine: DockerEngine,
  aws: Aws,
  registry: Pick<Registry, "host">,
): Promise<PlainScript> {
  const home = await makeTempDir("script");
  const bin = await makeBinFolder(home.path, engine);
  const times = join(home.path, "times");
  const ecr = ecrClient(aws);
  return {
    engine,
    async run(job) {
      await rm(times, { force: true });
      const startMs = performance.now();
      const token = await registryToken(ecr);
      const tokenMs = performance.now() - startMs;
      const { stdout } = await run(["bash", SCRIPT], {
        stdin: `${token}\n`,
        timeoutMs: TIMEOUT_MS,
        env: {
          HOME: home.path,
          PATH: `${bin}:${process.env.PATH}`,
          DOCKER_HOST: engine.host,
          DOCKER_CONFIG: undefined,
          TIMES: times,
          REGISTRY: registry.host,
          REPO_URL: job.repositoryUrl,
          BRANCH: job.branch,
          ECR_REPO: job.ecrRepo,
          VERSION: job.version,
          IMAGE: "app",
          FOLDER: join(home.path, "app"),
        },
      });
      const totalMs = performance.now() - startMs;
      const digest = /digest: (sha256:[0-9a-f]{64})/.exec(stdout)?.[1];
      if (digest === undefined) throw new Error(`docker push printed no digest:\n${stdout}`);
      return { totalMs, stepsMs: { token: tokenMs, ...stepsOf(await readFile(times, "utf8")) }, digest };
    },
    async stop() {
      ecr.destroy();
      await home.remove();
    },
  };
}

/**
 * Links the engine's client directly: the one that tests use (docker-client.ts) is a wrapper script, whose start would
 * count six times in the plain script's time.
 */
async function makeBinFolder(home: string, { engine }: DockerEngine): Promise<string> {
  const found = await findDockerPrograms(engine);
  if (!found.available) throw new Error(found.reason);
  const { docker, buildxPlugin } = found.programs;
  const bin = join(home, "bin");
  await mkdir(bin);
  await symlink(docker, join(bin, "docker"));
  if (buildxPlugin !== undefined) {
    const plugins = join(home, ".docker/cli-plugins");
    await mkdir(plugins, { recursive: true });
    await symlink(buildxPlugin, join(plugins, "docker-buildx"));
  }
  return bin;
}

function ecrClient({ endpoint, region, accessKeyId, secretAccessKey }: Aws): ECRClient {
  return new ECRClient({ endpoint, region, credentials: { accessKeyId, secretAccessKey } });
}

/** Instead of `aws ecr get-login-password`: the same call, without the half second that `aws` takes to start. */
async function registryToken(ecr: ECRClient): Promise<string> {
  const { authorizationData } = await ecr.send(new GetAuthorizationTokenCommand({}));
  const pair = Buffer.from(authorizationData?.[0]?.authorizationToken ?? "", "base64").toString();
  return pair.slice(pair.indexOf(":") + 1);
}

/** From lines of a name and two times in seconds. */
function stepsOf(times: string): Record<string, number> {
  const rows = times.trim().split("\n");
  return Object.fromEntries(
    rows.map((row) => {
      const [name = "", from, to] = row.split(" ");
      return [name, (Number(to) - Number(from)) * 1000];
    }),
  );
}
