import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmod } from "node:fs/promises";
import { join } from "node:path";
import pino from "pino";
import { RegistryAuthFile } from "../../../../src/worker/registry/auth-file.ts";
import { readDockerAuths } from "../../../../src/worker/registry/docker-auths.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";

let dir: TempDir;

beforeAll(async () => {
  dir = await makeTempDir("auth-file");
});
afterAll(() => dir.remove());

async function authFile(content: string, mode: number) {
  const path = join(dir.path, `${crypto.randomUUID()}.json`);
  await Bun.write(path, content);
  await chmod(path, mode);
  const logged: string[] = [];
  const logger = pino({}, { write: (line: string) => void logged.push(line) });
  const environment = { PATH: dir.path };
  return {
    path,
    logged,
    file: new RegistryAuthFile({ path, auths: readDockerAuths(content), environment, logger }),
  };
}

const LOGIN = JSON.stringify({ auths: { "ghcr.io": { username: "u", password: "hush-1" } } });

test("warns of a file that other users can read, and of a missing helper", async () => {
  expect((await authFile(LOGIN, 0o600)).logged).toEqual([]);
  expect((await authFile(LOGIN, 0o640)).logged).toEqual([]);
  const { logged, path } = await authFile(LOGIN, 0o644);
  expect(logged.join()).toContain(`chmod 600 ${path}`);
  const helpers = JSON.stringify({ credHelpers: { "quay.io": "absent" } });
  expect((await authFile(helpers, 0o600)).logged.join()).toContain("docker-credential-absent");
});

test("a file that has become invalid, or is gone, leaves the earlier content, and is logged without it", async () => {
  const { file, path, logged } = await authFile(LOGIN, 0o600);
  const request = { job: {} as never, mayUse: () => true, signal: new AbortController().signal };
  const loginsNow = () => file.baseLogins(request);
  const before = await loginsNow();
  expect(before).toMatchObject([{ host: "ghcr.io", login: { password: "hush-1" } }]);
  await Bun.write(path, LOGIN.replace("hush-1", "hush-2"));
  const after = await loginsNow();
  expect(after).toMatchObject([{ login: { password: "hush-2" } }]);
  await Bun.write(path, '{"auths":{"ghcr.io":{"auth":"hush-3"}}}');
  expect(await loginsNow()).toEqual(after);
  await Bun.file(path).delete();
  expect(await loginsNow()).toEqual(after);
  expect(logged).toHaveLength(2);
  expect(logged.join()).not.toContain("hush");
});
