/** Logins at the registries that a build pulls base images from. */
import { orAbort } from "../../shared/abort.ts";
import { type BaseLogin, secretsOf } from "../registry/base-logins.ts";
import type { DockerLogin } from "../registry/docker-auths.ts";
import type { RunContext } from "./run-context.ts";

/** A longer Dockerfile is searched for names of registries only up to here. */
const MAX_DOCKERFILE_BYTES = 1024 * 1024;

/** By host. The job's own logins replace those of the worker. */
export type BaseLogins = ReadonlyMap<string, BaseLogin>;

export async function findBaseLogins(
  { job, parts, redactor, log, signal }: RunContext,
  dockerfile: string,
): Promise<BaseLogins> {
  const texts = [
    await Bun.file(dockerfile).slice(0, MAX_DOCKERFILE_BYTES).text(),
    ...Object.values(job.buildArgs),
  ];
  const mayUse = (text: string) => texts.some((one) => one.includes(text));
  const sources = parts.baseLogins ?? [];
  const asked = Promise.all(sources.map((source) => source.baseLogins({ job, mayUse, signal })));
  const ofWorker = await orAbort(asked, signal);
  const ofJob = Object.entries(job.registryAuths).map(
    ([host, login]): BaseLogin => ({ host, source: "registry_auths", login }),
  );
  const all = [...ofJob, ...ofWorker.flat()];
  const logins = new Map(all.toReversed().map((login) => [login.host, login]));
  await redactor.addAll([...usable(logins).values()].flatMap(secretsOf));
  for (const { host, source, login } of logins.values())
    if ("problem" in login) log(`no login for base images from ${host} (${source}): ${login.problem}`);
  return logins;
}

export function usable(logins: BaseLogins): ReadonlyMap<string, DockerLogin> {
  return new Map([...logins].flatMap(([host, { login }]) => ("problem" in login ? [] : [[host, login]])));
}
