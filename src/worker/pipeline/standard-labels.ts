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
