/**
 * With whom a job shares BuildKit's cache. BuildKit takes neither a secret's value nor whose build it is for a part of
 * a step's key: another tenant's build of the same Dockerfile would be given the layer that this one's secret made.
 */
import { createHash } from "node:crypto";
import type { PipelineJob } from "../job/job.ts";

/** `all`: builds that are alike share their steps, whoever asks. `tenant`: only those of one AWS account do. */
export const CACHE_SHARING = ["all", "tenant"] as const;
export type CacheSharing = (typeof CACHE_SHARING)[number];

export interface CacheScope {
  /** Becomes a part of the key of every RUN step; undefined where those of others will do. */
  readonly steps?: string;
  /** Whose `RUN --mount=type=cache` folders are seen. Builds write to them, so no other tenant's ever are. */
  readonly mounts: string;
}

export function cacheScope(
  { awsAccount, secrets }: Pick<PipelineJob, "awsAccount" | "secrets">,
  repositoryUrl: string,
  sharing: CacheSharing,
): CacheScope {
  const mounts = scopeName("mounts", awsAccount);
  if (Object.keys(secrets).length > 0) {
    return { mounts, steps: scopeName("secrets", awsAccount, repositoryUrl) };
  }
  return sharing === "tenant" ? { mounts, steps: scopeName("tenant", awsAccount) } : { mounts };
}

/** Fit for a host name. */
function scopeName(...parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 32);
}
