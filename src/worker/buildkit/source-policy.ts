/**
 * Builds without a network may not fetch sources either: BuildKit itself carries out `ADD` of URLs and git repositories,
 * from the engine's network, so the network of RUN steps does not matter for them. BuildKit checks every source against
 * a policy before it opens a connection, with names from build arguments and base images (ONBUILD) filled in. It also
 * names the sources before any redirect.
 */
import { writeFile } from "node:fs/promises";
import type { BuildRequest } from "./builder.ts";

interface Rule {
  readonly action: "ALLOW" | "DENY";
  readonly selector: {
    /** With `*` for any text. */
    readonly identifier: string;
    readonly constraints?: readonly { key: string; value: string; condition: "EQUAL" }[];
  };
}

/** Of BuildKit, for an image that it runs as the frontend that reads the Dockerfile (`# syntax=…`). */
const IS_FRONTEND = { key: "image.recordtype", value: "frontend", condition: "EQUAL" } as const;

/**
 * The last rule that matches decides. A frontend runs with the engine's network unless its image asks for none, as
 * Docker's own frontends do. Identifiers must differ: BuildKit 0.13 takes the constraints of the first rule with an
 * identifier for all rules with it.
 */
const RULES: readonly Rule[] = [
  { action: "DENY", selector: { identifier: "*" } },
  { action: "ALLOW", selector: { identifier: "local://*" } },
  { action: "ALLOW", selector: { identifier: "docker-image://*" } },
  { action: "DENY", selector: { identifier: "docker-image:*", constraints: [IS_FRONTEND] } },
  { action: "ALLOW", selector: { identifier: "docker-image://docker.io/docker/dockerfile:*" } },
  { action: "ALLOW", selector: { identifier: "docker-image://docker.io/docker/dockerfile@*" } },
  { action: "ALLOW", selector: { identifier: "docker-image://docker.io/docker/dockerfile-upstream:*" } },
  { action: "ALLOW", selector: { identifier: "docker-image://docker.io/docker/dockerfile-upstream@*" } },
];

export async function writeSourcePolicy(path: string): Promise<void> {
  await writeFile(path, JSON.stringify({ rules: RULES }));
}

/** For buildx. Docker's own client, before version 23, has no policies; neither has BuildKit before 0.11. */
export function sourcePolicyEnvironment(path: string): Record<string, string> {
  return { EXPERIMENTAL_BUILDKIT_SOURCE_POLICY: path };
}

/** The source that BuildKit's final error names as denied. */
export function deniedSource(error: string): string | undefined {
  return /source "([^"]+)" denied by policy: source denied by policy$/.exec(error)?.[1];
}

/** Why it was denied, and the remedy. */
export function describeDenial(source: string): string {
  const reason = "builds on this worker have no network (BLACKTREE_BUILD_NETWORK=none)";
  const image = /^docker-image:\/\/(.*)$/.exec(source)?.[1];
  return image === undefined
    ? `ADD cannot fetch ${source}: ${reason}; commit the file to the repository, or fetch it before the build`
    : `${image} cannot read the Dockerfile (# syntax=): ${reason}, and only the frontends of docker/dockerfile run without one`;
}

/** For the request's own build. */
export async function writePolicyOf({ network, workspace }: BuildRequest): Promise<void> {
  if (network === "none") await writeSourcePolicy(workspace.sourcePolicy);
}
