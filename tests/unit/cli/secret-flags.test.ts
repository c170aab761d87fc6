import { afterAll, beforeAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { addSecretFlags, secretFields } from "../../../src/cli/secret-flags.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";

let folder: TempDir;
beforeAll(async () => {
  folder = await makeTempDir("secrets");
});
afterAll(() => folder.remove());

function file(name: string, content: string | Uint8Array): string {
  const path = join(folder.path, name);
  writeFileSync(path, content);
  return path;
}

function fieldsOf(args: readonly string[], fromFile: Record<string, unknown> = {}, environment = {}) {
  const command = new Command();
  addSecretFlags(command);
  command.parse(args, { from: "user" });
  return secretFields(command, fromFile, environment);
}

test("secrets are read from variables and files, as docker's --secret", () => {
  const path = file("npm", "line\n");
  const args = ["--secret", "id=a,env=TOKEN", "--secret", `type=file,id=b,src=${path}`];
  expect(fieldsOf(args, { secrets: { b: "file", c: "file" } }, { TOKEN: "value" })).toEqual({
    secrets: { a: "value", b: "line\n", c: "file" },
  });
  expect(fieldsOf(["--secret", `id=a,source=${path}`])).toEqual({ secrets: { a: "line\n" } });
});

test("the token of a file ends before its line break", () => {
  expect(fieldsOf(["--git-token-file", file("token", "abc\n")])).toEqual({ git_token: "abc" });
  expect(() => fieldsOf(["--git-token-file", file("two", "abc\ndef\n")])).toThrow(
    "--git-token-file (git_token): expected 1 to 4096 characters without spaces",
  );
});

test.each(["hunter2", "npm=hunter2", "id=npm,hunter2", "id=npm", "id=npm,env=A,src=hunter2", "env=hunter2"])(
  "--secret %p is refused, and not shown",
  (spec) => {
    const refused = () => fieldsOf(["--secret", spec]);
    expect(refused).toThrow("--secret (secrets): expected id=NAME,env=VARIABLE or id=NAME,src=FILE");
    expect(refused).not.toThrow("hunter2");
  },
);

test("sources of secrets that do not exist or cannot be in a job are named", () => {
  expect(() => fieldsOf(["--secret", "id=a,env=UNSET"])).toThrow("UNSET is not set in the environment");
  expect(() => fieldsOf(["--secret", "id=a,src=/nowhere/x"])).toThrow("/nowhere/x: cannot be read (ENOENT)");
  const binary = file("binary", new Uint8Array([0xff, 0xfe]));
  expect(() => fieldsOf(["--secret", `id=a,src=${binary}`])).toThrow("is not UTF-8");
  expect(() => fieldsOf(["--secret", "id=a b,env=A"], {}, { A: "x" })).toThrow(
    "expected an object of secrets",
  );
});

test("logins are those of docker's configuration, or the field itself", () => {
  const auths = {
    "https://index.docker.io/v1/": { auth: btoa("me:pass:word") },
    "https://ghcr.io/v2/": { identitytoken: "token" },
    "registry.example.com:5000": { auth: btoa("robot:secret") },
  };
  const docker = file("config.json", JSON.stringify({ auths, HttpHeaders: {} }));
  expect(fieldsOf(["--registry-auth-file", docker])).toEqual({
    registry_auths: {
      "docker.io": { username: "me", password: "pass:word" },
      "ghcr.io": { identity_token: "token" },
      "registry.example.com:5000": { username: "robot", password: "secret" },
    },
  });
  const field = { "ghcr.io": { username: "a", password: "b" } };
  const own = file("logins.json", JSON.stringify(field));
  expect(fieldsOf(["--registry-auth-file", own])).toEqual({ registry_auths: field });
});

test.each([
  ["not JSON: hunter2", ": not JSON; expected a JSON object"],
  ['{"hunter2": 1, "hunter2": 2}', ": an object has the same name twice"],
  [new Uint8Array([0x22, 0xff, 0x22]), ": not UTF-8"],
  ['{"auths": {"ghcr.io": {}}, "credsStore": "hunter2"}', "which docker keeps in a credential helper"],
  ['{"auths": {"hunter2": {"auth": "x"}}}', "a key of auths is not the host of a registry"],
  ['{"auths": ["hunter2"]}', "its auths are not logins as docker login writes them"],
  ['{"ghcr.io": "hunter2"}', "--registry-auth-file (registry_auths): ghcr.io: expected username"],
])("a file of logins %p is refused, and its content not shown", (content, message) => {
  const refused = () => fieldsOf(["--registry-auth-file", file("wrong", content)]);
  expect(refused).toThrow(message);
  expect(refused).not.toThrow("hunter2");
});
