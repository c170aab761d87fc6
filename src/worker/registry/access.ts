/** Address and credentials of the registry that a job's image is pushed to. */
import type { PipelineJob } from "../job/job.ts";

export interface RegistryCredentials {
  readonly username: string;
  readonly password: string;
}

/** Credentials that may expire before the run ends. */
export interface TimedCredentials {
  readonly credentials?: RegistryCredentials;
  /** In ms since 1970: later a push may outlast them. Undefined for credentials that never expire. */
  readonly usableUntilMs?: number;
  /** Requests new credentials; undefined for credentials that cannot be renewed. */
  readonly renew?: () => Promise<TimedCredentials>;
}

export interface RegistryAccess extends TimedCredentials {
  /** `host` or `host:port`, as in image names. */
  readonly host: string;
  /** Scheme and host, for the worker's own requests. */
  readonly origin: string;
  /** Mutability of the version's tag. When it is unknown, the registry decides at the push. */
  readonly tagMutability: "mutable" | "immutable" | "unknown";
}

export interface AuthenticationRequest {
  /** Without a version the tag's mutability may be unknown. */
  readonly job: Pick<PipelineJob, "awsAccount" | "region" | "ecrRepo" | "tenant"> &
    Partial<Pick<PipelineJob, "deploymentVersion" | "jobId">>;
  readonly log: (line: string) => void;
  readonly signal: AbortSignal;
}

/** All runs of a worker share one authenticator. */
export interface RegistryAuthenticator {
  authenticate(request: AuthenticationRequest): Promise<RegistryAccess>;
}
