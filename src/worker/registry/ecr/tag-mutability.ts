import type { Repository } from "@aws-sdk/client-ecr";
import type { RegistryAccess } from "../access.ts";

type TagMutability = RegistryAccess["tagMutability"];

/**
 * Whether this tag can be moved: a repository has one mutability for all tags except those that its filters exclude.
 * Without a tag, a repository with filters has an unknown mutability.
 */
export function tagMutability(repository: Repository | undefined, tag: string | undefined): TagMutability {
  switch (repository?.imageTagMutability) {
    case "MUTABLE":
      return "mutable";
    case "IMMUTABLE":
      return "immutable";
    case "MUTABLE_WITH_EXCLUSION":
      return byExclusion(repository, tag, { excluded: "immutable", others: "mutable" });
    case "IMMUTABLE_WITH_EXCLUSION":
      return byExclusion(repository, tag, { excluded: "mutable", others: "immutable" });
    default:
      return "unknown";
  }
}

function byExclusion(
  { imageTagMutabilityExclusionFilters: filters = [] }: Repository,
  tag: string | undefined,
  mutability: { readonly excluded: TagMutability; readonly others: TagMutability },
): TagMutability {
  if (tag === undefined || filters.some(({ filterType }) => filterType !== "WILDCARD")) return "unknown";
  const isExcluded = filters.some(({ filter = "" }) => wildcard(filter).test(tag));
  return isExcluded ? mutability.excluded : mutability.others;
}

/** `*` matches any characters, or none. */
function wildcard(filter: string): RegExp {
  const literals = filter.split("*").map((literal) => literal.replaceAll(/[^A-Za-z0-9_]/g, "\\$&"));
  return new RegExp(`^${literals.join(".*")}$`);
}
