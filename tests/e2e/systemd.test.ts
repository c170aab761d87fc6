import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { cp, readdir } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../support/machine/processes.ts";
import { makeTempDir, type TempDir } from "../support/machine/temp-dir.ts";
import { writeFiles } from "../support/machine/write-files.ts";

// Loading all of the machine's units takes a moment on a busy one.
setDefaultTimeout(60_000);

const units = join(import.meta.dir, "../../systemd");
const MOST_EXPOSURE = { "blacktree-orchestrator.service": 1.5, "blacktree-worker@.service": 2 };
const UNITS = [...Object.keys(MOST_EXPOSURE), "blacktreebuilds.slice"];

let machine: TempDir;

// As it looks where Blacktree is installed: its programs, its units, and those of systemd that they name.
beforeAll(async () => {
  machine = await makeTempDir("units");
  await writeFiles(machine.path, {
    "usr/local/bin/blacktree-orchestrator": "#!/bin/sh\n",
    "usr/local/bin/blacktree-worker": "#!/bin/sh\n",
  });
  await cp(units, join(machine.path, "etc/systemd/system"), { recursive: true });
  await cp("/usr/lib/systemd/system", join(machine.path, "usr/lib/systemd/system"), { recursive: true });
});
afterAll(() => machine.remove());

test("all units are looked at here", async () => {
  expect((await readdir(units)).sort()).toEqual(UNITS);
});

test.each(UNITS)("%s is understood, every word of it", async (unit) => {
  const verified = await run(["systemd-analyze", "verify", `--root=${machine.path}`, unit], {
    mayFail: true,
  });
  expect(verified).toEqual({ exitCode: 0, stdout: "", stderr: "" });
});

test.each(Object.entries(MOST_EXPOSURE))("%s is exposed to at most %d of 10", async (unit, most) => {
  // systemd counts in tenths.
  const threshold = `--threshold=${Math.round(most * 10)}`;
  const judged = await run(
    ["systemd-analyze", "security", "--offline=yes", "--no-pager", threshold, join(units, unit)],
    { mayFail: true },
  );
  expect(judged.stdout.split("\n").at(-2)).toContain("Overall exposure level");
  expect(judged.exitCode).toBe(0);
});

test.each(Object.keys(MOST_EXPOSURE))("%s leaves no way to make another program of it", async (unit) => {
  const text = await Bun.file(join(units, unit)).text();
  expect(text).toMatch(/^UnsetEnvironment=BUN_OPTIONS BUN_BE_BUN$/m);
});
