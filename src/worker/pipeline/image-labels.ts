import { createHash } from "node:crypto";
import type { PipelineJob } from "../job/job.ts";

/** Only Blacktree sets labels with this prefix; a job that names one is refused. */
export type ReservedLabels = Readonly<Record<`io.blacktree.${string}`, string>>;

/**
 * The inputs of an image. wanted-image.ts decides what their presence on an image proves. An input that is added later
 * must be empty by default: an image without its label then still matches.
 */
export type InputLabels = ReservedLabels;

export type ImageInputs = Pick<
  PipelineJob,
  | "gitDepth"
  | "gitTags"
  | "dockerfile"
  | "context"
  | "target"
  | "buildArgs"
  | "labels"
  | "provenance"
  | "platforms"
  | "secrets"
> & { readonly repositoryUrl: string; readonly commit: string };

/** The same for the same mapping, in whatever order its entries were written. */
function fingerprint(mapping: Readonly<Record<string, string>>): string {
  const entries = Object.entries(mapping).sort(([one], [other]) => (one < other ? -1 : 1));
  return entries.length === 0 ? "" : createHash("sha256").update(JSON.stringify(entries)).digest("hex");
}

export function inputLabels(inputs: ImageInputs): InputLabels {
  return {
    "io.blacktree.repository": inputs.repositoryUrl,
    "io.blacktree.commit": inputs.commit,
    "io.blacktree.git-depth": inputs.gitDepth === 1 ? "" : String(inputs.gitDepth),
    "io.blacktree.git-tags": inputs.gitTags ? "true" : "",
    "io.blacktree.dockerfile": inputs.dockerfile ?? "",
    "io.blacktree.context": inputs.context ?? "",
    "io.blacktree.target": inputs.target ?? "",
    // Everyone who may pull the image can read its labels, and build arguments may be sensitive.
    "io.blacktree.build-args": fingerprint(inputs.buildArgs),
    "io.blacktree.labels": fingerprint(inputs.labels),
    "io.blacktree.platforms": inputs.platforms.join(","),
    "io.blacktree.provenance": String(inputs.provenance),
    // Names only: not even a hash of a secret may be published.
    "io.blacktree.secrets": Object.keys(inputs.secrets).sort().join(","),
  };
}

/**
 * Identifies all inputs of a tenant's image without their values. Secrets are inputs by name only, so another tenant's
 * image may have been built with other values.
 */
export function inputsHash(inputs: InputLabels, tenant: string): string {
  const given = Object.entries(inputs).filter(([, value]) => value !== "");
  return fingerprint({ ...Object.fromEntries(given), tenant });
}

export function hasLabels(imageLabels: Readonly<Record<string, string>>, labels: ReservedLabels): boolean {
  return Object.entries(labels).every(([name, value]) => (imageLabels[name] ?? "") === value);
}

export interface ImageOrigin {
  readonly repositoryUrl: string;
  readonly commit: string;
  readonly version: string;
  readonly committedAt: Date | undefined;
}

/** Labels with the predefined annotation keys of the OCI image specification, which common tools display. */
export function standardLabels({ repositoryUrl, commit, version, committedAt }: ImageOrigin) {
  return {
    "org.opencontainers.image.source": repositoryUrl,
    "org.opencontainers.image.revision": commit,
    "org.opencontainers.image.version": version,
    // Not the time of the build: the same commit and version result in the same image at any time.
    ...(committedAt && {
      "org.opencontainers.image.created": committedAt.toISOString().replace(/\.000Z$/, "Z"),
    }),
  };
}
