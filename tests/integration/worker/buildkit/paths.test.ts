import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, readdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { buildPaths } from "../../../../src/worker/buildkit/paths.ts";
import { StepFailure } from "../../../../src/worker/job/failure.ts";
import { createWorkspace } from "../../../../src/worker/job/workspace.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";

let dir: TempDir;
let checkout: string;

beforeAll(async () => {
  dir = await makeTempDir("paths");
  checkout = join(dir.path, "checkout");
  await Bun.write(join(checkout, "Dockerfile"), "");
  await Bun.write(join(checkout, "sub/Dockerfile"), "");
  await Bun.write(join(checkout, "docker/Other"), "");
  await Bun.write(join(dir.path, "checkout-outside/Dockerfile"), "");
  await symlink("docker/Other", join(checkout, "inside"));
  await symlink("../checkout-outside/Dockerfile", join(checkout, "outside"));
  await symlink("../checkout-outside", join(checkout, "outside-folder"));
  await symlink("/etc", join(checkout, "absolute"));
  await symlink("nowhere", join(checkout, "dangling"));
  await symlink("loop", join(checkout, "loop"));
});
afterAll(() => dir.remove());

test.each([
  [{}, "Dockerfile", "."],
  [{ dockerfile: "", context: "" }, "Dockerfile", "."],
  [{ context: "sub" }, "sub/Dockerfile", "sub"],
  [{ dockerfile: "docker/Other", context: "sub" }, "docker/Other", "sub"],
  [{ dockerfile: "sub/../docker/./Other" }, "docker/Other", "."],
  [{ dockerfile: "inside" }, "docker/Other", "."],
])("%j is found", async (job, dockerfile, context) => {
  expect(await buildPaths(checkout, job)).toEqual({
    dockerfile: join(checkout, dockerfile),
    context: join(checkout, context),
    inCheckout: [context === "." ? "" : context, dockerfile],
  });
});

test.each([
  [{ dockerfile: "../checkout-outside/Dockerfile" }, "INVALID_JOB"],
  [{ dockerfile: "outside" }, "INVALID_JOB"],
  [{ dockerfile: "outside-folder/Dockerfile" }, "INVALID_JOB"],
  [{ dockerfile: "absolute/passwd" }, "INVALID_JOB"],
  [{ context: ".." }, "INVALID_JOB"],
  [{ context: "outside-folder" }, "INVALID_JOB"],
  [{ context: "absolute" }, "INVALID_JOB"],
  [{ context: "none" }, "INVALID_JOB"],
  [{ context: "Dockerfile" }, "INVALID_JOB"],
  [{ dockerfile: "none" }, "DOCKERFILE_NOT_FOUND"],
  [{ dockerfile: "sub" }, "DOCKERFILE_NOT_FOUND"],
  [{ dockerfile: "dangling" }, "DOCKERFILE_NOT_FOUND"],
  [{ dockerfile: "loop" }, "DOCKERFILE_NOT_FOUND"],
  [{ dockerfile: "Dockerfile/x" }, "DOCKERFILE_NOT_FOUND"],
] as const)("%j is %s", async (job, code) => {
  const error = await buildPaths(checkout, job).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(StepFailure);
  expect(error).toMatchObject({ failure: { code, step: "build", retryable: false } });
});

test("only the owner can read a workspace, and it is removed with read-only folders and links in it", async () => {
  const workspace = await createWorkspace(dir.path, "paths", {
    jobId: "a:b/../c",
    attempt: 2,
    awsAccount: "123456789012",
    region: "us-east-1",
    ecrRepo: "app",
    tenant: "acme",
  });
  const { mode } = await Bun.file(workspace.path).stat();
  expect(mode & 0o777).toBe(0o700);
  await mkdir(join(workspace.checkout, "locked"), { recursive: true });
  await Bun.write(join(workspace.checkout, "locked/file"), "");
  await symlink(checkout, join(workspace.checkout, "link"));
  const { chmod } = await import("node:fs/promises");
  await chmod(join(workspace.checkout, "locked"), 0o500);
  await workspace.remove();
  expect(await readdir(join(dir.path, "runs/paths"))).toEqual([]);
  expect(await Bun.file(join(checkout, "Dockerfile")).exists()).toBe(true);
});
