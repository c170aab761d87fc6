import { describe, expect, test } from "bun:test";
import {
  buildFailure,
  type FailedBuild,
  finalError,
  isBrokenCache,
  pushFailure,
} from "../../../../src/worker/buildkit/failure.ts";

describe("finalError", () => {
  test("is buildx's last ERROR line, without its prefixes", () => {
    const stderr = [
      "#6 0.1 ERROR: of the step",
      "ERROR: of a step",
      "ERROR: failed to solve: the truth",
      "",
      "View build details: x",
    ];
    expect(finalError(stderr)).toBe("the truth");
  });

  test("is, for docker 20.10, all lines after the last separator", () => {
    const stderr = [
      "#6 0.1 x",
      "------",
      " > [2/2] RUN x:",
      "------",
      "executor failed running [/bin/sh -c a",
      "b]: exit code: 3",
    ];
    expect(finalError(stderr)).toBe("executor failed running [/bin/sh -c a\nb]: exit code: 3");
    expect(finalError(["#1 x", "failed to solve with frontend dockerfile.v0: no such file"])).toBe(
      "no such file",
    );
  });
});

const failed = (stderr: readonly string[], build: Partial<FailedBuild> = {}) =>
  buildFailure({ stderr, exitCode: 1, isExportFailed: false, ...build });

describe("buildFailure", () => {
  test.each([
    [
      'ERROR: failed to solve: process "/bin/sh -c exit 3" did not complete successfully: exit code: 3',
      "BUILD_FAILED",
      false,
    ],
    [
      'ERROR: failed to solve: process "/bin/sh -c echo no space left on device; exit 1" did not complete successfully: exit code: 1',
      "BUILD_FAILED",
      false,
    ],
    [
      "executor failed running [/bin/sh -c echo code = Unavailable; exit 3]: exit code: 3",
      "BUILD_FAILED",
      false,
    ],
    [
      "ERROR: failed to solve: dockerfile parse error on line 1: unknown instruction: FRM",
      "BUILD_FAILED",
      false,
    ],
    [
      "ERROR: failed to solve: x:1: failed to resolve source metadata for x:1: x:1: not found",
      "BUILD_FAILED",
      false,
    ],
    [
      "ERROR: failed to solve: x:1: failed to resolve source metadata for x:1: dial tcp 1.2.3.4:443: i/o timeout",
      "BUILD_FAILED",
      true,
    ],
    ...(
      [
        ["401 Unauthorized", false],
        ["404 Not Found", false],
        ["429 Too Many Requests", true],
        ["502 Bad Gateway", true],
      ] as const
    ).map(([status, retryable]) => {
      const request = "unexpected status from HEAD request to http://127.0.0.1:5000/v2/x/manifests/1";
      const error = `ERROR: failed to solve: x:1: failed to resolve source metadata for x:1: ${request}: ${status}`;
      return [error, "BUILD_FAILED", retryable] as const;
    }),
    [
      "failed to solve with frontend dockerfile.v0: failed to create LLB definition: pulling from host 127.0.0.1:5000 failed with status code [manifests 1]: 503 Service Unavailable",
      "BUILD_FAILED",
      true,
    ],
    [
      "ERROR: failed to solve: failed to copy files: write /var/lib/x: no space left on device",
      "DISK_FULL",
      true,
    ],
    [
      'ERROR: failed to solve: process "/bin/sh -c x" did not complete successfully: mkdir /var/lib/x: no space left on device',
      "DISK_FULL",
      true,
    ],
    [
      'ERROR: failed to solve: failed to load LLB: error evaluating the source policy: source "http://x/y" denied by policy: source denied by policy',
      "UNSUPPORTED",
      false,
    ],
    [
      'ERROR: failed to solve: process "/bin/sh -c echo source \\"x\\" denied by policy: source denied by policy" did not complete successfully: exit code: 1',
      "BUILD_FAILED",
      false,
    ],
    ["ERROR: DeadlineExceeded: context deadline exceeded", "INTERNAL", true],
    [
      "ERROR: failed to solve: rpc error: code = DeadlineExceeded desc = context deadline exceeded",
      "INTERNAL",
      true,
    ],
    [
      "ERROR: failed to solve: failed to copy files: userspace copy failed: write /data/buildkit/containerd-overlayfs/cachemounts/buildkit1/big: no space left on device",
      "DISK_FULL",
      true,
    ],
    [
      "ERROR: failed to solve: mount callback failed on /data/tmpmounts/containerd-mount1: failed to write compressed diff: failed to create diff tar stream: failed to copy: write /data/ingest/1/data: no space left on device",
      "DISK_FULL",
      true,
    ],
    ["write /data/overlay2/x/diff/bin/busybox: no space left on device", "DISK_FULL", true],
    [
      "ERROR: Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?",
      "INTERNAL",
      true,
    ],
    [
      "ERROR: failed to receive status: rpc error: code = Unavailable desc = error reading from server: EOF",
      "INTERNAL",
      true,
    ],
    ["ERROR: failed to receive status: rpc error: code = Canceled desc = context canceled", "INTERNAL", true],
    ["ERROR: context deadline exceeded", "INTERNAL", true],
    ["ERROR: failed to solve: EOF", "INTERNAL", true],
    [
      "ERROR: failed to solve: eof: failed to resolve source metadata for docker.io/library/eof:latest: not found",
      "BUILD_FAILED",
      false,
    ],
    [
      "ERROR: failed to solve: x@sha256:a429b: failed to resolve source metadata for docker.io/library/x@sha256:a429b: not found",
      "BUILD_FAILED",
      false,
    ],
  ] as const)("%s is %s", (line, code, retryable) => {
    expect(failed(["#1 a step", line]).failure).toMatchObject({ code, retryable });
  });

  test.each([
    [
      "ERROR: failed to solve: failed to push r/i@sha256:1: unexpected status from HEAD request to http://r/v2/x: 401 Unauthorized",
      "ECR_AUTH",
      false,
    ],
    [
      "ERROR: failed to solve: failed to push r/i@sha256:1: failed to authorize: failed to fetch anonymous token: 403",
      "ECR_AUTH",
      false,
    ],
    [
      "ERROR: failed to solve: failed to push r/i@sha256:1: name unknown: The repository with name 'i' does not exist in the registry with id '1'",
      "ECR_REPO_NOT_FOUND",
      false,
    ],
    [
      "ERROR: failed to solve: failed to push r/i@sha256:1: failed to do request: dial tcp 127.0.0.1:1: connect: connection refused",
      "PUSH_FAILED",
      true,
    ],
  ] as const)("%s is %s, if the export has failed", (line, code, retryable) => {
    expect(failed([line], { isExportFailed: true }).failure).toMatchObject({ code, retryable });
    expect(failed([line]).failure.code).toBe("BUILD_FAILED");
  });

  const CACHE_KEY =
    "ERROR: failed to solve: failed to compute cache key: failed to calculate checksum of ref a::b: ";
  const METADATA = "failed to resolve source metadata for docker.io/library";
  test.each([
    `${CACHE_KEY}"/ENOSPC": not found`,
    `${CACHE_KEY}"/no space left on device": not found`,
    `${CACHE_KEY}"/x: no space left on device": not found`,
    `${CACHE_KEY}"/rpc error: code = Unavailable": not found`,
    `${CACHE_KEY}"/failed to do request: 429 connection refused": not found`,
    `ERROR: failed to solve: unavailable: ${METADATA}/unavailable:latest: not found`,
    `ERROR: failed to solve: 429:timeout: ${METADATA}/429:timeout: 429:timeout: not found`,
    `ERROR: failed to solve: timeout: ${METADATA}/timeout:latest: not found`,
    "ERROR: failed to solve: dockerfile parse error on line 2: unknown instruction: x: no space left on device",
    "failed to solve with frontend dockerfile.v0: failed to create LLB definition: dockerfile parse error line 2: x: no space left on device",
    'ERROR: failed to solve: process "/bin/sh -c : \\" did not complete successfully: no space left on device" did not complete successfully: exit code: 1',
    "executor failed running [/bin/sh -c : ]: no space left on device]: exit code: 1",
  ])("the words of a job in it do not count: %s", (line) => {
    expect(failed([line]).failure).toMatchObject({ code: "BUILD_FAILED", retryable: false });
  });

  test("an error of containerd is that of the system", () => {
    const line = "ERROR: failed to solve: failed to mount /x: no space left on device: unknown";
    expect(failed([line]).failure.code).toBe("DISK_FULL");
  });

  test("a cache with a missing layer is recognized, and not by the words of a job", () => {
    const missing = "could not fetch content descriptor sha256:1 (x) from remote: not found";
    const error = (message: string) => failed([`ERROR: failed to solve: ${message}`]);
    expect(isBrokenCache(error(missing))).toBe(true);
    expect(
      isBrokenCache(
        error(`process "/bin/sh -c echo ${missing}" did not complete successfully: exit code: 1`),
      ),
    ).toBe(false);
    expect(isBrokenCache(error(`failed to compute cache key: "/${missing}": not found`))).toBe(false);
  });

  test("a denied source is named, with the reason", () => {
    const messageFor = (source: string) =>
      failed([`ERROR: failed to solve: x: source "${source}" denied by policy: source denied by policy`])
        .message;
    const reason = "BLACKTREE_BUILD_NETWORK=none";
    expect(messageFor("git://host/owner/name.git")).toMatch(`ADD cannot fetch git://host/owner/name.git: `);
    expect(messageFor("https://host/file")).toContain(reason);
    const image = "evil.example/frontend:1@sha256:1";
    expect(messageFor(`docker-image://${image}`)).toMatch(
      `${image} cannot read the Dockerfile (# syntax=): `,
    );
    expect(messageFor(`docker-image://${image}`)).toContain(reason);
  });

  test("without any output, names docker's exit status", () => {
    expect(failed([], { exitCode: 137 }).message).toContain("137");
  });
});

describe("pushFailure", () => {
  test.each([
    ["no basic auth credentials", "ECR_AUTH"],
    ["unauthorized: authentication required", "ECR_AUTH"],
    ["denied: Your authorization token has expired. Reauthenticate and try again.", "ECR_AUTH"],
    [
      "name unknown: The repository with name 'x' does not exist in the registry with id '1'",
      "ECR_REPO_NOT_FOUND",
    ],
    [
      "tag invalid: The image tag 'x' already exists and cannot be overwritten because the repository is immutable.",
      "TAG_IMMUTABLE",
    ],
    ["received unexpected HTTP status: 503 Service Unavailable", "PUSH_FAILED"],
    ["write /var/lib/docker/tmp/x: no space left on device", "DISK_FULL"],
    [
      "failed to push r/authentication-app@sha256:1: unexpected status from POST request to http://r/v2/authentication-app/blobs/uploads/: 503 Service Unavailable",
      "PUSH_FAILED",
    ],
    [
      'failed to push r/immutable-401@sha256:1: failed to do request: Put "https://r/v2/immutable-401/manifests/sha256:1": dial tcp 127.0.0.1:1: connect: connection refused',
      "PUSH_FAILED",
    ],
    [
      "failed to push r/name_unknown@sha256:1: unexpected status from POST request to http://r/v2/name_unknown/x: 503 Service Unavailable",
      "PUSH_FAILED",
    ],
    [
      "denied: User: arn:aws:iam::1:user/u is not authorized to perform: ecr:PutImage on resource: arn:aws:ecr:us-east-1:1:repository/immutable-app",
      "ECR_AUTH",
    ],
  ] as const)("%s is %s", (line, code) => {
    expect(pushFailure(line).failure).toMatchObject({ code, step: "push" });
  });
});
