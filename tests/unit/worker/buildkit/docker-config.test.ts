import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { DockerConfig } from "../../../../src/worker/buildkit/docker-config.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";

let dir: TempDir;

beforeAll(async () => {
  dir = await makeTempDir("docker-config");
});
afterAll(() => dir.remove());

const target = (password?: string) => ({
  host: "registry.example.com",
  origin: "https://registry.example.com",
  tagMutability: "unknown" as const,
  credentials: password === undefined ? undefined : { username: "push", password },
});
const auth = (pair: string) => ({ auth: Buffer.from(pair).toString("base64") });
const authsIn = async () => (await Bun.file(join(dir.path, "config.json")).json()).auths;

test("has the logins for base images beside that of the target, which they never replace", async () => {
  const config = new DockerConfig(dir.path, {});
  await config.setTarget(target("one"));
  expect(await authsIn()).toEqual({ "registry.example.com": auth("push:one") });
  const bases = new Map([
    ["docker.io", { username: "u", password: "p" }],
    ["quay.io", { identityToken: "t" }],
    ["ghcr.io", { registryToken: "r" }],
    ["registry.example.com", { username: "other", password: "other" }],
  ]);
  await config.setBaseLogins(bases);
  const withBases = {
    "https://index.docker.io/v1/": auth("u:p"),
    "quay.io": { identitytoken: "t" },
    "ghcr.io": { registrytoken: "r" },
  };
  expect(await authsIn()).toEqual({ ...withBases, "registry.example.com": auth("push:one") });
  await config.setTarget(target("renewed"));
  expect(await authsIn()).toEqual({ ...withBases, "registry.example.com": auth("push:renewed") });
  await config.setTarget(target());
  expect(await authsIn()).toEqual(withBases);
});
