/** What it takes to use the registry that a job's image goes to. */
import type { PipelineJob } from "../job/job.ts";

export interface RegistryCredentials {
  readonly username: string;
  readonly password: string;
}

/** Credentials that may end before the run does. */
export interface TimedCredentials {
  readonly credentials?: RegistryCredentials;
  /** In ms since 1970: after that they may end before a push does. Absent where they never end. */
  readonly usableUntilMs?: number;
  /** Gives others in their place; absent where there are no others. */
  readonly renew?: () => Promise<TimedCredentials>;
}

export interface RegistryAccess extends TimedCredentials {
  /** `host` or `host:port`, as in an image's name. */
  readonly host: string;
  /** Scheme and host, for the worker's own requests. */
  readonly origin: string;
  /** Of the version's tag. `unknown` where it cannot be asked: then the registry's own answer decides. */
  readonly tagMutability: "mutable" | "immutable" | "unknown";
}

export interface AuthenticationRequest {
  /** Without a version nothing is said of its tag. */
  readonly job: Pick<PipelineJob, "awsAccount" | "region" | "ecrRepo"> &
    Partial<Pick<PipelineJob, "deploymentVersion">>;
  readonly log: (line: string) => void;
  readonly signal: AbortSignal;
}

/** One for all runs of a worker. */
export interface RegistryAuthenticator {
  authenticate(request: AuthenticationRequest): Promise<RegistryAccess>;
}
