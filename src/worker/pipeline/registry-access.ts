/** What it takes to use the registry that a job's image goes to. */
import type { PipelineJob } from "./pipeline-job.ts";

export interface RegistryCredentials {
  readonly username: string;
  readonly password: string;
}

export interface RegistryAccess {
  /** `host` or `host:port`, as in an image's name. */
  readonly host: string;
  /** Scheme and host, for the worker's own requests. */
  readonly origin: string;
  readonly credentials?: RegistryCredentials;
  /** `unknown` where it depends on the tag, or cannot be asked: then the registry's own answer decides. */
  readonly tagMutability: "mutable" | "immutable" | "unknown";
}

export interface AuthenticationRequest {
  readonly job: Pick<PipelineJob, "awsAccount" | "region" | "ecrRepo">;
  readonly log: (line: string) => void;
  readonly signal: AbortSignal;
}

/** One for all runs of a worker. */
export interface RegistryAuthenticator {
  authenticate(request: AuthenticationRequest): Promise<RegistryAccess>;
}
