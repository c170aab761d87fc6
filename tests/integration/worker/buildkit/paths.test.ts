import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { mkdir, readdir, readFile, rm, symlink } from "node:fs/promises";
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
  await Bun.write(join(checkout, "docker/Other.dockerignore"), "beside the file");
  await Bun.write(join(checkout, "lower/dockerfile"), "");
  await Bun.write(join(checkout, "both/dockerfile"), "");
  await Bun.write(join(checkout, "both/Dockerfile"), "");
  await Bun.write(join(checkout, "upper/DOCKERFILE"), "");
  await mkdir(join(checkout, "hidden"));
  await Bun.write(join(checkout, "hidden/dockerfile"), "");
  await symlink("nowhere", join(checkout, "hidden/Dockerfile"));
  await symlink("docker", join(checkout, "linked"));
  await mkdir(join(checkout, "sub/deep"));
  await symlink("sub/deep", join(checkout, "linked-deep"));
  await symlink("../checkout-outside/Dockerfile", join(checkout, "outside"));
  await symlink("../checkout-outside", join(checkout, "outside-folder"));
  await symlink("/etc", join(checkout, "absolute"));
  await symlink("nowhere", join(checkout, "dangling"));
  await symlink("loop", join(checkout, "loop"));
});
afterAll(() => dir.remove());

const workspace = () => ({ checkout, dockerfileCopy: join(dir.path, "dockerfile-copy") });
const copies = () => workspace().dockerfileCopy;
afterEach(() => rm(copies(), { recursive: true, force: true }));

test.each([
  [{}, "Dockerfile", "."],
  [{ dockerfile: "", context: "" }, "Dockerfile", "."],
  [{ context: "sub" }, "sub/Dockerfile", "sub"],
  [{ dockerfile: "docker/Other", context: "sub" }, "docker/Other", "sub"],
  [{ dockerfile: "sub/../docker/./Other" }, "docker/Other", "."],
  [{ dockerfile: "linked/Other" }, "docker/Other", "."],
  [{ context: "linked-deep/.." }, "sub/Dockerfile", "sub"],
  [{ context: "lower" }, "lower/dockerfile", "lower"],
  [{ dockerfile: "lower/Dockerfile" }, "lower/dockerfile", "."],
  [{ context: "both" }, "both/Dockerfile", "both"],
])("%j is found", async (job, dockerfile, context) => {
  expect(await buildPaths(workspace(), job)).toEqual({
    dockerfile: join(checkout, dockerfile),
    context: join(checkout, context),
    inCheckout: [context === "." ? "" : context, dockerfile],
  });
});

/** A link's name, what it leads to, the content of its own ignore file or the target of one that is a link. */
const links = [
  ["Linked", "docker/Other", { ignore: "beside the link" }, "beside the link"],
  ["Bare", "docker/Other", {}, undefined],
  ["Chain", "Linked", { ignoreLink: "docker/Other.dockerignore" }, "beside the file"],
  ["docker/Up", "../sub/Dockerfile", { ignore: "in the folder" }, "in the folder"],
  ["Dangling", "docker/Other", { ignoreLink: "nowhere" }, undefined],
] as const;

test("a Dockerfile that is a link is copied with the ignore file beside the link, under the link's name", async () => {
  for (const [name, target, ignore, expected] of links) {
    await symlink(target, join(checkout, name));
    const ignorePath = join(checkout, `${name}.dockerignore`);
    if ("ignore" in ignore) await Bun.write(ignorePath, ignore.ignore);
    if ("ignoreLink" in ignore) await symlink(ignore.ignoreLink, ignorePath);
    const base = name.replace(/.*\//, "");
    expect(await buildPaths(workspace(), { dockerfile: name })).toEqual({
      dockerfile: join(copies(), base),
      context: checkout,
      inCheckout: ["", name],
    });
    const copied = await readFile(join(copies(), `${base}.dockerignore`), "utf8").catch(() => undefined);
    expect(copied).toBe(expected);
    await rm(copies(), { recursive: true });
  }
});

test("a Dockerfile with a policy beside it is copied, without the policy", async () => {
  await Bun.write(join(checkout, "policed/Dockerfile"), "FROM scratch");
  await Bun.write(join(checkout, "policed/Dockerfile.rego"), "package docker");
  const { dockerfile } = await buildPaths(workspace(), { context: "policed" });
  expect(dockerfile).toBe(join(copies(), "Dockerfile"));
  expect(await readdir(copies())).toEqual(["Dockerfile"]);
});

test("an ignore file beside a linked Dockerfile does not lead out of the repository", async () => {
  await symlink("docker/Other", join(checkout, "Leading"));
  await symlink("../checkout-outside/Dockerfile", join(checkout, "Leading.dockerignore"));
  const error = await buildPaths(workspace(), { dockerfile: "Leading" }).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ failure: { code: "INVALID_JOB" } });
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
  [{ dockerfile: "." }, "DOCKERFILE_NOT_FOUND"],
  [{ context: "upper" }, "DOCKERFILE_NOT_FOUND"],
  // As for buildx, the dangling link counts.
  [{ context: "hidden" }, "DOCKERFILE_NOT_FOUND"],
] as const)("%j is %s", async (job, code) => {
  const error = await buildPaths(workspace(), job).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(StepFailure);
  expect(error).toMatchObject({ failure: { code, step: "build", retryable: false } });
});

test("only the owner can read a workspace, and it is removed with read-only folders and links in it", async () => {
  const created = await createWorkspace(dir.path, "paths", {
    jobId: "a:b/../c",
    attempt: 2,
    awsAccount: "123456789012",
    region: "us-east-1",
    ecrRepo: "app",
    tenant: "acme",
  });
  const { mode } = await Bun.file(created.path).stat();
  expect(mode & 0o777).toBe(0o700);
  await mkdir(join(created.checkout, "locked"), { recursive: true });
  await Bun.write(join(created.checkout, "locked/file"), "");
  await symlink(checkout, join(created.checkout, "link"));
  const { chmod } = await import("node:fs/promises");
  await chmod(join(created.checkout, "locked"), 0o500);
  await created.remove();
  expect(await readdir(join(dir.path, "runs/paths"))).toEqual([]);
  expect(await Bun.file(join(checkout, "Dockerfile")).exists()).toBe(true);
});
