/** Signs in to the registry and looks up the version that the job is to create. */
import { orAbort } from "../../shared/abort.ts";
import { buildArguments } from "../buildkit/build-args.ts";
import { writeDockerConfig } from "../buildkit/docker-config.ts";
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
  const onRenewed = async (renewed: RegistryAccess) => {
    run.redactor.add(renewed.credentials?.password);
    const { proxies } = buildArguments(job.buildArgs, argumentTransportOf(run));
    await writeDockerConfig(workspace.dockerConfig, renewed, proxies);
  };
  await onRenewed(access);
  const login = new RegistryLogin(access, { onRenewed, log });
  const registry = new RegistryClient(login, "authenticate");
  const existing = await findVersion({ ...run.inRepository(registry), signal });
  return { access, login, registry, existing };
}
