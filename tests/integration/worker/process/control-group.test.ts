import { afterAll, beforeAll, expect, test } from "bun:test";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { createControlGroup } from "../../../../src/worker/process/control-group.ts";
import { endProcessesOf } from "../../../../src/worker/process/end-processes.ts";
import { runInGroup } from "../../../../src/worker/process/process-group.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";

let folder: TempDir;

beforeAll(async () => {
  folder = await makeTempDir("control-group");
});

afterAll(() => folder.remove());

const { signal } = new AbortController();
const runFolder = () => join(folder.path, "run");

async function isAlive(pid: string): Promise<boolean> {
  const status = await Bun.file(`/proc/${pid}/stat`)
    .text()
    .catch(() => ") Z ");
  return !/\) Z /.test(status);
}

/** In a new session, without environment and in another folder: nothing but its control group says whose it is. */
const LEAVE = [
  "env -i setsid sleep 60 > /dev/null 2>&1 < /dev/null & pid=$!",
  // The process group is ended with its leader, so the session has to exist before.
  'until [ "$(cut -d" " -f6 /proc/$pid/stat)" = "$pid" ]; do :; done',
  "echo $pid",
].join("\n");

async function leaveProcess(controlGroup: string): Promise<string> {
  const environment = { PATH: process.env.PATH ?? "" };
  const script = `grep -q blacktree-run /proc/self/cgroup || exit 1; cd /\n${LEAVE}`;
  const { stdoutTail } = await runInGroup({
    argv: ["/bin/sh", "-c", script],
    cwd: folder.path,
    environment,
    controlGroup,
    signal,
  });
  return stdoutTail[0] ?? "";
}

const group = await createControlGroup("/nowhere");
await endProcessesOf(["/nowhere"], signal);

test.skipIf(group === undefined)(
  "a process that hides from its run is ended with the run's group",
  async () => {
    const controlGroup = (await createControlGroup(runFolder())) ?? "";
    const pid = await leaveProcess(controlGroup);
    expect(await isAlive(pid)).toBe(true);
    const other = (await createControlGroup(`${runFolder()}-other`)) ?? "";
    const otherPid = await leaveProcess(other);
    await endProcessesOf([runFolder()], signal);
    expect(await isAlive(pid)).toBe(false);
    expect(await isAlive(otherPid)).toBe(true);
    expect(await stat(controlGroup).catch(() => undefined)).toBeUndefined();
    await endProcessesOf([`${runFolder()}-other`], signal);
    expect(await isAlive(otherPid)).toBe(false);
  },
);

test.skipIf(group === undefined)("a program that does not exist is an error in a group too", async () => {
  const controlGroup = (await createControlGroup(`${runFolder()}-missing`)) ?? "";
  const environment = { PATH: process.env.PATH ?? "" };
  for (const program of ["no-such-program", "/nowhere/program"]) {
    const command = { argv: [program] as const, cwd: folder.path, environment, controlGroup, signal };
    await expect(runInGroup(command)).rejects.toThrow(/not found|ENOENT/);
  }
  await endProcessesOf([`${runFolder()}-missing`], signal);
});

test("a run without a group has nothing to end", async () => {
  await endProcessesOf([join(folder.path, "none")], signal);
});
