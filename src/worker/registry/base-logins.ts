/** Logins at registries from which builds pull base images. */
import type { PipelineJob } from "../job/job.ts";
import type { DockerLogin } from "./docker-auths.ts";

export interface BaseLoginRequest {
  readonly job: Pick<PipelineJob, "awsAccount" | "region" | "ecrRepo" | "tenant" | "jobId">;
  /** Whether a name that the Dockerfile builds from may contain this text. */
  readonly mayUse: (text: string) => boolean;
  readonly signal: AbortSignal;
}

export interface BaseLogin {
  /** As registryHost returns it. */
  readonly host: string;
  /** The setting or field that it comes from. */
  readonly source: string;
  /** The login, or why there is none: a build that pulls nothing from this registry does not need it. */
  readonly login: DockerLogin | { readonly problem: string };
}

/** A source of logins for all jobs of a worker. */
export interface BaseLoginSource {
  /** Rejects only when the signal aborts. */
  baseLogins(request: BaseLoginRequest): Promise<readonly BaseLogin[]>;
}

/** The values to mask in logs: of a password also the form in which it is sent. */
export function secretsOf(login: DockerLogin): readonly string[] {
  if ("identityToken" in login) return [login.identityToken];
  if ("registryToken" in login) return [login.registryToken];
  return [login.password, Buffer.from(`${login.username}:${login.password}`).toString("base64")];
}
