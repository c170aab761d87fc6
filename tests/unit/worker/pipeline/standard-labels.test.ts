import { expect, test } from "bun:test";
import { standardLabels } from "../../../../src/worker/pipeline/image-labels.ts";

const origin = { repositoryUrl: "https://github.com/a/b", commit: "c".repeat(40), version: "v1" };

test("standard labels: created is the commit's time in RFC 3339 format", () => {
  const committedAt = new Date("2026-01-20T10:00:00.000+02:00");
  expect(standardLabels({ ...origin, committedAt })).toEqual({
    "org.opencontainers.image.source": "https://github.com/a/b",
    "org.opencontainers.image.revision": "c".repeat(40),
    "org.opencontainers.image.version": "v1",
    "org.opencontainers.image.created": "2026-01-20T08:00:00Z",
  });
});

test("standard labels: created is omitted when the commit's time is unknown", () => {
  expect(standardLabels({ ...origin, committedAt: undefined })).not.toHaveProperty([
    "org.opencontainers.image.created",
  ]);
});
