import { afterAll, beforeAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { readJobFile } from "../../../src/cli/json-file.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";

let folder: TempDir;
beforeAll(async () => {
  folder = await makeTempDir("json-file");
});
afterAll(() => folder.remove());

function read(content: string | Uint8Array) {
  const path = join(folder.path, "job.json");
  writeFileSync(path, content);
  return readJobFile(path, "a job");
}

test("a file has one JSON object, with or without a byte order mark", async () => {
  expect(await read('{"branch": "ä"}')).toEqual({ branch: "ä" });
  expect(await read('\ufeff{"branch": "ä"}')).toEqual({ branch: "ä" });
});

test.each([
  [Buffer.from('{"branch": "hunter\xe9"}', "latin1"), "not UTF-8; expected JSON in UTF-8"],
  ['{"branch": "hunter", "branch": "b"}', "an object has the same name twice; expected it once"],
  ['{"branch": "hunter', "not JSON; expected a JSON object"],
  ["", "not JSON; expected a JSON object"],
  ['["hunter"]', "not a JSON object; expected a job"],
  ["null", "not a JSON object; expected a job"],
])("a file %p is refused, and its content not shown", async (content, message) => {
  const refused = read(content);
  await expect(refused).rejects.toThrow(`job.json: ${message}`);
  await expect(refused).rejects.not.toThrow("hunter");
});

test("a file that cannot be read is named", async () => {
  await expect(readJobFile("/nowhere/x", "a job")).rejects.toThrow(
    "--file /nowhere/x: cannot be read (ENOENT)",
  );
});
