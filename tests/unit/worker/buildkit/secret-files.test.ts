import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { recordedInstance } from "../../../../src/worker/buildkit/buildx-instance.ts";
import { DockerConfig } from "../../../../src/worker/buildkit/docker-config.ts";
import { writeSecrets } from "../../../../src/worker/buildkit/secret-files.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";

let dir: TempDir;
let umask: number;

beforeEach(async () => {
  dir = await makeTempDir("secrets");
  umask = process.umask(0);
});
afterEach(async () => {
  process.umask(umask);
  await dir.remove();
});

const modeOf = async (...path: string[]) => ((await stat(join(dir.path, ...path))).mode & 0o777).toString(8);

test("with umask 0, only the worker's account can read the files of secrets", async () => {
  const secrets = join(dir.path, "secrets");
  await writeSecrets({ job: { secrets: { key: "value" } }, workspace: { secrets } } as never);
  expect(await modeOf("secrets")).toBe("700");
  expect(await modeOf("secrets/key")).toBe("600");
});

test("with umask 0, only the worker's account can read logins and buildx's records", async () => {
  const config = join(dir.path, "config");
  await mkdir(config);
  const target = { host: "registry", credentials: { username: "u", password: "p" } } as never;
  await new DockerConfig(config, {}).setTarget(target);
  await recordedInstance({ name: "builder", content: "{}" }, {}).configure(config);
  expect(await modeOf("config/config.json")).toBe("600");
  expect(await modeOf("config/buildx/instances/builder")).toBe("600");
});
