import { createHash } from "node:crypto";
import type { PipelineJob } from "../job/job.ts";

/**
 * What an image was made of, recorded in its labels `io.blacktree.*`, so that the same version can be recognised as
 * made already. All of them are set on every image, also when empty: a base image may bring its own.
 */
export type InputLabels = Readonly<Record<`io.blacktree.${string}`, string>>;

export type ImageInputs = Pick<
  PipelineJob,
  "dockerfile" | "context" | "target" | "buildArgs" | "labels" | "provenance" | "platforms" | "secrets"
> & { readonly repositoryUrl: string; readonly commit: string };

/** One text for one mapping, whatever the order in which it was written. */
function fingerprint(mapping: Readonly<Record<string, string>>): string {
  const entries = Object.entries(mapping).sort(([one], [other]) => (one < other ? -1 : 1));
  return entries.length === 0 ? "" : createHash("sha256").update(JSON.stringify(entries)).digest("hex");
}

export function inputLabels(inputs: ImageInputs): InputLabels {
  return {
    "io.blacktree.repository": inputs.repositoryUrl,
    "io.blacktree.commit": inputs.commit,
    "io.blacktree.dockerfile": inputs.dockerfile ?? "",
    "io.blacktree.context": inputs.context ?? "",
    "io.blacktree.target": inputs.target ?? "",
    // Labels can be read by all who may pull, and build arguments may be sensitive.
    "io.blacktree.build-args": fingerprint(inputs.buildArgs),
    "io.blacktree.labels": fingerprint(inputs.labels),
    "io.blacktree.platforms": inputs.platforms.join(","),
    "io.blacktree.provenance": String(inputs.provenance),
    // Their values are for nobody to see, not even as a hash.
    "io.blacktree.secrets": Object.keys(inputs.secrets).sort().join(","),
  };
}

/** Stands for all inputs of an image, where their values are not needed. */
export function inputsHash(inputs: InputLabels): string {
  return fingerprint(inputs);
}

export function hasInputs(imageLabels: Readonly<Record<string, string>>, inputs: InputLabels): boolean {
  return Object.entries(inputs).every(([name, value]) => imageLabels[name] === value);
}

/** The labels of the OCI image specification's annotations: what everybody's tools read of an image. */

export interface ImageOrigin {
  readonly repositoryUrl: string;
  readonly commit: string;
  readonly version: string;
  readonly committedAt: Date | undefined;
}

export function standardLabels({ repositoryUrl, commit, version, committedAt }: ImageOrigin) {
  return {
    "org.opencontainers.image.source": repositoryUrl,
    "org.opencontainers.image.revision": commit,
    "org.opencontainers.image.version": version,
    // Not the time of the build: the same commit and version give the same image, whenever they are built.
    ...(committedAt && {
      "org.opencontainers.image.created": committedAt.toISOString().replace(/\.000Z$/, "Z"),
    }),
  };
}
