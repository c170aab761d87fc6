/**
 * A build as a file for `buildx bake`: only so do build arguments reach BuildKit without being in an argument list, which
 * every user can read, or in the environment of docker's client, where their names could affect it. As a Compose file,
 * since bake's own formats normalize Unicode, and know no network before buildx 0.15.
 */
import { writePrivateFile } from "../job/private-file.ts";
import type { BuildRequest } from "./builder.ts";
import { addedHost } from "./cache-scope.ts";
import { secretSources } from "./secret-files.ts";

export interface ImageOutput {
  /** buildx's `--output`. */
  readonly output: string;
  readonly tag?: string;
  /** buildx's `--cache-from`. */
  readonly cacheFrom?: readonly string[];
  /** buildx's `--cache-to`. */
  readonly cacheTo?: readonly string[];
}

export const BAKE_TARGET = "image";

export function writeBakeFile(request: BuildRequest, image: ImageOutput): Promise<void> {
  const { job, paths, labels, network, cacheScope } = request;
  const host = addedHost(cacheScope);
  // No job can choose another tenant's namespace.
  const args = { ...job.buildArgs, BUILDKIT_CACHE_MOUNT_NS: cacheScope.mounts };
  const build = {
    context: paths.context,
    dockerfile: paths.dockerfile,
    ...(job.target && { target: job.target }),
    // As a list, in which a name may be anything.
    args: Object.entries(args).map(([name, value]) => `${name}=${value}`),
    labels,
    network,
    ...(host && { extra_hosts: [host] }),
    ...(image.tag && { tags: [image.tag] }),
    "x-bake": {
      platforms: job.platforms,
      secret: secretSources(request),
      output: [image.output],
      "cache-from": image.cacheFrom ?? [],
      "cache-to": image.cacheTo ?? [],
    },
  };
  return writePrivateFile(request.workspace.bakeFile, yamlOf({ services: { [BAKE_TARGET]: { build } } }));
}

type Yaml = string | readonly Yaml[] | { readonly [key: string]: Yaml };

/** In YAML's flow style, and in ASCII: YAML takes other characters for line breaks, and refuses some. */
export function yamlOf(value: Yaml): string {
  if (typeof value === "string") return quoted(value.replaceAll("$", "$$$$"));
  if (Array.isArray(value)) return `[${value.map(yamlOf).join(", ")}]`;
  const entries = Object.entries(value).map(([key, each]) => `${quoted(key)}: ${yamlOf(each)}`);
  return `{${entries.join(", ")}}`;
}

function quoted(text: string): string {
  return `"${text.toWellFormed().replaceAll(/[^ !#-[\]-~]/gu, escaped)}"`;
}

function escaped(character: string): string {
  return `\\U${(character.codePointAt(0) ?? 0).toString(16).padStart(8, "0")}`;
}
