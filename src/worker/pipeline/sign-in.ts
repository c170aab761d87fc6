/** Signs in to the registry and looks up the version that the job is to create. */
import { orAbort } from "../../shared/abort.ts";
import { registryHost } from "../../shared/registry-login.ts";
import { buildArguments } from "../buildkit/build-args.ts";
import { DockerConfig } from "../buildkit/docker-config.ts";
import { StepFailure } from "../job/failure.ts";
import type { PipelineJob } from "../job/job.ts";
import type { Workspace } from "../job/workspace.ts";
import type { RegistryAccess } from "../registry/access.ts";
import { RegistryClient } from "../registry/client.ts";
import { RegistryLogin } from "../registry/login.ts";
import { argumentTransportOf } from "./argument-transport.ts";
import type { RunContext } from "./run-context.ts";
import { findVersion } from "./version-tag.ts";
import type { ExistingImage } from "./wanted-image.ts";

/** Where the image goes, and what is there already. */
export interface Destination {
  readonly access: RegistryAccess;
  /** Renews the credentials while the run needs them. */
  readonly login: RegistryLogin;
  readonly registry: RegistryClient;
  readonly existing: ExistingImage | undefined;
  /** Has the login at the registry. */
  readonly dockerConfig: DockerConfig;
}

export async function signIn(
  run: RunContext,
  workspace: Workspace,
  signal: AbortSignal,
): Promise<Destination> {
  const { job, parts, log } = run;
  run.reporter.state("AUTHENTICATING");
  const access = await run.times.during("auth", () =>
    orAbort(parts.authenticator.authenticate({ job, log, signal }), signal),
  );
  refuseTargetLogin(job, access);
  const { proxies } = buildArguments(job.buildArgs, argumentTransportOf(run));
  const dockerConfig = new DockerConfig(workspace.dockerConfig, proxies);
  const onRenewed = async (renewed: RegistryAccess) => {
    run.redactor.add(renewed.credentials?.password);
    await dockerConfig.setTarget(renewed);
  };
  await onRenewed(access);
  const login = new RegistryLogin(access, { onRenewed, log });
  const registry = new RegistryClient(login, "authenticate");
  const existing = await findVersion({ ...run.inRepository(registry), signal });
  return { access, login, registry, existing, dockerConfig };
}

/** The worker alone decides with which login an image is pushed. @throws StepFailure with code INVALID_JOB */
function refuseTargetLogin({ registryAuths }: PipelineJob, { host }: RegistryAccess): void {
  const target = registryHost(host) ?? host;
  if (!Object.hasOwn(registryAuths, target)) return;
  const message = `registry_auths has a login for ${target}, the registry that the image is pushed to; the worker has that login: remove it from the job`;
  throw new StepFailure({ code: "INVALID_JOB", step: "authenticate", message });
}
