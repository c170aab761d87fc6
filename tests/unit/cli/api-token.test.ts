import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { apiToken } from "../../../src/cli/api-token.ts";
import { WrongUsage } from "../../../src/cli/wrong-usage.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";

const LOCAL = "http://127.0.0.1:8080";
const OTHER = "http://orchestrator.example:8080";

let folder: TempDir;
/** A home folder in which `up` has run as the documentation says. */
let HOME: string;
let workDir: string;

beforeAll(async () => {
  folder = await makeTempDir("cli");
  [HOME, workDir] = ["home", "work"].map((name) => join(folder.path, name)) as [string, string];
  mkdirSync(join(HOME, ".blacktree"), { recursive: true });
  mkdirSync(workDir);
  writeFileSync(join(HOME, ".blacktree", "admin-token"), "token-at-home\n", { mode: 0o600 });
  writeFileSync(join(workDir, "admin-token"), "token-of-work\n", { mode: 0o600 });
  writeFileSync(join(folder.path, "public"), "token-of-all-users\n", { mode: 0o644 });
});
afterAll(() => folder.remove());

function tokenFor(environment: Readonly<Record<string, string>>, { api = LOCAL, tokenFile = "" } = {}) {
  return apiToken({ api, tokenFile: tokenFile || undefined, environment }).token;
}

test("the work folder of up is found in the home folder, or by BLACKTREE_WORK_DIR", () => {
  expect(tokenFor({ HOME })).toBe("token-at-home");
  expect(tokenFor({ HOME, BLACKTREE_WORK_DIR: workDir })).toBe("token-of-work");
  expect(tokenFor({ HOME }, { api: "http://[::1]:8080" })).toBe("token-at-home");
  expect(tokenFor({ HOME }, { api: "http://localhost:8080" })).toBe("token-at-home");
});

test("no other machine gets the token of a local file that was not named", () => {
  expect(tokenFor({ HOME, BLACKTREE_WORK_DIR: workDir }, { api: OTHER })).toBeUndefined();
  expect(tokenFor({ HOME }, { api: "http://127.0.0.1.example:8080" })).toBeUndefined();
});

test("flag, then BLACKTREE_ADMIN_TOKEN or BLACKTREE_ADMIN_TOKEN_FILE, then the local files", () => {
  const file = join(workDir, "admin-token");
  const named = { HOME, BLACKTREE_ADMIN_TOKEN_FILE: file };
  const given = { HOME, BLACKTREE_ADMIN_TOKEN: "token-given" };
  expect(tokenFor(named)).toBe("token-of-work");
  expect(tokenFor(named, { api: OTHER })).toBe("token-of-work");
  expect(tokenFor(given)).toBe("token-given");
  expect(tokenFor(given, { tokenFile: file })).toBe("token-of-work");
  expect(() => tokenFor({ ...named, ...given })).toThrow("are both set");
});

test("a named file that other users can read is refused", () => {
  const tokenFile = join(folder.path, "public");
  expect(() => tokenFor({}, { tokenFile })).toThrow(WrongUsage);
  expect(() => tokenFor({}, { tokenFile })).toThrow(`expected a file that only its owner can read`);
  expect(() => tokenFor({ BLACKTREE_ADMIN_TOKEN_FILE: tokenFile })).toThrow("BLACKTREE_ADMIN_TOKEN_FILE");
});

test("without a token, the message for a refusal says where it was looked for", () => {
  const environment = { BLACKTREE_WORK_DIR: join(folder.path, "empty") };
  const { token, origin } = apiToken({ api: LOCAL, tokenFile: undefined, environment });
  expect(token).toBeUndefined();
  expect(origin).toContain(join(folder.path, "empty", "admin-token"));
  expect(origin).toContain("--token-file");
});
