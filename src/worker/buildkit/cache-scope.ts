/**
 * Which jobs share BuildKit's cache. In BuildKit neither a secret's value nor the tenant is part of a step's cache key:
 * another tenant's build of the same Dockerfile would get the layer that was built with this tenant's secret.
 */
import { createHash } from "node:crypto";
import type { PipelineJob } from "../job/job.ts";

/** `all`: equal steps are shared by all builds. `tenant`: they are shared only by builds of one tenant. */
export const CACHE_SHARING = ["all", "tenant"] as const;
export type CacheSharing = (typeof CACHE_SHARING)[number];

export interface CacheScope {
  /** Added to the cache key of every RUN step; undefined when the steps are shared by all builds. */
  readonly steps?: string;
  /** Namespace of `RUN --mount=type=cache` folders. Builds write to them, so tenants never share them. */
  readonly mounts: string;
}

export function cacheScope(
  { tenant, secrets }: Pick<PipelineJob, "tenant" | "secrets">,
  repositoryUrl: string,
  sharing: CacheSharing,
): CacheScope {
  const mounts = scopeName("mounts", tenant);
  if (Object.keys(secrets).length > 0) {
    return { mounts, steps: scopeName("secrets", tenant, repositoryUrl) };
  }
  return sharing === "tenant" ? { mounts, steps: scopeName("tenant", tenant) } : { mounts };
}

/** For every step of the build. No build looks the host up: extra hosts are part of a step's cache key, and of no image. */
export function addedHost({ steps }: CacheScope): string | undefined {
  return steps === undefined ? undefined : `${steps}.blacktree.invalid:127.0.0.1`;
}

/** Valid as part of a host name. */
function scopeName(...parts: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 32);
}
