import { afterAll, beforeAll, expect, test } from "bun:test";
import { cp, readdir } from "node:fs/promises";
import { join } from "node:path";
import { unitEnvironment as orchestratorEnvironment } from "../../src/orchestrator/config.ts";
import { unitEnvironment as workerEnvironment } from "../../src/worker/settings/config.ts";
import { run } from "../support/machine/processes.ts";
import { makeTempDir, type TempDir } from "../support/machine/temp-dir.ts";
import { writeFiles } from "../support/machine/write-files.ts";

// Loading all of the machine's units takes a moment on a busy machine.
const units = join(import.meta.dir, "../../systemd");
const MAX_EXPOSURE = {
  "blacktree-orchestrator.service": 1.3,
  "blacktree-orchestrator@.service": 1.3,
  "blacktree-worker@.service": 1.7,
};
const UNITS = [...Object.keys(MAX_EXPOSURE), "blacktree.target", "blacktreebuilds.slice"];

let machine: TempDir;

// A root folder as after an installation of Blacktree: its programs, its units, and those of systemd that they use.
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

test("systemd: this test covers all units", async () => {
  expect((await readdir(units)).sort()).toEqual(UNITS);
});

test.each(UNITS)("systemd: %s passes systemd-analyze verify without a warning", async (unit) => {
  const verified = await run(["systemd-analyze", "verify", `--root=${machine.path}`, unit], {
    mayFail: true,
    timeoutMs: 150_000,
  });
  expect(verified).toEqual({ exitCode: 0, stdout: "", stderr: "" });
});

test.each(Object.entries(MAX_EXPOSURE))(
  "systemd: %s has an exposure of at most %d of 10",
  async (unit, most) => {
    // systemd counts in tenths.
    const threshold = `--threshold=${Math.round(most * 10)}`;
    const judged = await run(
      ["systemd-analyze", "security", "--offline=yes", "--no-pager", threshold, join(units, unit)],
      { mayFail: true },
    );
    expect(judged.stdout.split("\n").at(-2)).toContain("Overall exposure level");
    expect(judged.exitCode).toBe(0);
  },
);

test("systemd: an orchestrator of several differs from the only one in its name, region and settings alone", async () => {
  const linesOf = async (unit: string) => (await Bun.file(join(units, unit)).text()).split("\n");
  const one = await linesOf("blacktree-orchestrator.service");
  const several = await linesOf("blacktree-orchestrator@.service");
  const options = (lines: readonly string[], others: readonly string[]) =>
    lines.filter((line) => !line.startsWith("#") && !others.includes(line));
  expect(options(one, several)).toEqual([
    "Description=Blacktree orchestrator",
    "EnvironmentFile=/etc/blacktree/orchestrator.env",
    "StateDirectory=blacktree/logs",
  ]);
  expect(options(several, one)).toEqual([
    "Description=Blacktree orchestrator for %i",
    "Environment=BLACKTREE_REGION=%i",
    "Environment=BLACKTREE_LOG_DIR=%S/blacktree/orchestrator-%i/logs",
    "EnvironmentFile=/etc/blacktree/orchestrator-%i.env",
    "StateDirectory=blacktree/orchestrator-%i",
  ]);
});

test.each(Object.keys(MAX_EXPOSURE))(
  "systemd: %s unsets the variables by which a compiled Bun program runs another program",
  async (unit) => {
    const text = await Bun.file(join(units, unit)).text();
    expect(text).toMatch(/^UnsetEnvironment=BUN_OPTIONS BUN_BE_BUN$/m);
  },
);

test.each([
  ["blacktree-orchestrator@.service", orchestratorEnvironment],
  ["blacktree-worker@.service", workerEnvironment],
])("systemd: %s sets the variables that --check-config --env-file shows", async (unit, unitEnvironment) => {
  const text = await Bun.file(join(units, unit)).text();
  const variables = [...text.matchAll(/^Environment=(\w+)=(.*)$/gm)].map(([, name, value]) => [
    name,
    value?.replaceAll("%i", "eu-west-1").replaceAll("%S", "/var/lib"),
  ]);
  expect(unitEnvironment("eu-west-1")).toEqual(Object.fromEntries(variables));
});

test.each(Object.keys(MAX_EXPOSURE))("systemd: %s writes no core file", async (unit) => {
  expect(await Bun.file(join(units, unit)).text()).toMatch(/^LimitCORE=0$/m);
});
