/**
 * BuildKit's cache of a repository, kept in the registry that its images go to, so that a worker that never saw the
 * repository starts warm. A branch writes to its own tag alone, and reads the default branch's as well.
 */
import { createHash } from "node:crypto";
import { COMPRESSION } from "../pipeline/layer-compression.ts";
import type { PipelineParts } from "../pipeline/pipeline-parts.ts";

export interface RegistryCache {
  /** References to read from; one that does not exist does no harm. */
  readonly from: readonly string[];
  readonly to: string;
  /** Ends the storing, which goes on when the image is pushed and the run has ended. */
  readonly storing: AbortSignal;
}

type CachingParts = Pick<PipelineParts, "cacheRepository" | "builder">;

/** Whose cache it is. */
export interface CachedBranch {
  readonly awsAccount: string;
  readonly repositoryUrl: string;
  readonly branch: string;
  /** Where it is known. */
  readonly defaultBranch: string | undefined;
}

/** Where builds are cached: nowhere without a repository for it, or with a builder that cannot use it. */
export function cacheRepositoryOf({ cacheRepository, builder }: CachingParts): string | undefined {
  return cacheRepository && builder.capabilities.registryCache ? cacheRepository : undefined;
}

export function cacheReferences(
  imageNamePrefix: string,
  { awsAccount, repositoryUrl, branch, defaultBranch = branch }: CachedBranch,
): Pick<RegistryCache, "from" | "to"> {
  const reference = (name: string) => `${imageNamePrefix}:${cacheTag(awsAccount, repositoryUrl, name)}`;
  const branches = new Set([branch, defaultBranch]);
  return { from: [...branches].map(reference), to: reference(branch) };
}

/** Readable, fit for a tag, and no other branch's. */
function cacheTag(...parts: readonly [awsAccount: string, repositoryUrl: string, branch: string]): string {
  const hash = createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16);
  const [awsAccount, repositoryUrl, branch] = parts;
  const repository = new URL(repositoryUrl).pathname.replace(/\.git$/, "");
  const readable = `${awsAccount}${repository}-${branch}`.replaceAll(/[^A-Za-z0-9_.-]+/g, "-");
  return `${readable.slice(0, 100)}-${hash}`;
}

/** ECR takes a cache as an image's manifest alone, and not as an index. */
const EXPORT = `mode=max,image-manifest=true,oci-mediatypes=true,ignore-error=true,${COMPRESSION}`;

export function cacheArguments(cache: RegistryCache | undefined): string[] {
  if (!cache) return [];
  return [
    ...cache.from.map((reference) => `--cache-from=type=registry,ref=${reference}`),
    `--cache-to=type=registry,ref=${cache.to},${EXPORT}`,
  ];
}
