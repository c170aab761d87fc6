/** A killed test run leaves programs and folders on the machine, and the next run removes them. */
import { afterAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { basename, join } from "node:path";
import { removeAbandoned } from "../../../support/machine/abandoned.ts";
import { identityOf, isRunning } from "../../../support/machine/process-identity.ts";
import { startProcess } from "../../../support/machine/processes.ts";
import { makeTempDir, tempDirPrefix } from "../../../support/machine/temp-dir.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";

/** The parent of what is left here: other test processes, which start at any time, do not look in it. */
const parent = await makeTempDir("parent");

afterAll(() => parent.remove());

const support = (file: string) => JSON.stringify(join(import.meta.dir, "../../../support", file));

/** Runs a script as a separate test process, kills that, and returns its output after "made ". */
async function killedAfter(script: string): Promise<string[]> {
  const maker = startProcess(
    [
      process.execPath,
      "-e",
      `const made = await (async () => { ${script} })();
       process.stdout.write("made " + made + "\\n");
       setInterval(() => undefined, 1_000);`,
    ],
    { env: { TMPDIR: parent.path } },
  );
  const line = await maker.waitForLine(/^made /, { timeoutMs: 60_000 });
  process.kill(maker.pid, "SIGKILL");
  await maker.exited;
  return line.slice("made ".length).split(" ");
}

const ended = (identity: string) =>
  waitFor(() => !isRunning(identity), { timeoutMs: 60_000, what: `${identity} to end` });

/** A shell script that ignores the SIGTERM which the kernel sends to the children of a killed process. */
const started = (shellScript: string) => `
  const { startProcess } = await import(${support("machine/processes.ts")});
  const { identityOf } = await import(${support("machine/process-identity.ts")});
  const child = startProcess(["sh", "-c", ${JSON.stringify(`trap '' TERM; ${shellScript}`)}]);
  const inner = Number(await child.waitForLine(/^\\d+$/));
  return [identityOf(child.pid), identityOf(inner)].join(" ");`;

test("abandoned: a program that ignores SIGTERM is ended with its children", async () => {
  const [leader = "", inner = ""] = await killedAfter(started("sleep 1000 & echo $!; wait; sleep 1000"));
  expect([leader, inner].map(isRunning)).toEqual([true, true]);
  await removeAbandoned(parent.path);
  await Promise.all([leader, inner].map(ended));
});

test("abandoned: a program's children are ended also when the program itself has ended", async () => {
  const [leader = "", inner = ""] = await killedAfter(started("sleep 1000 & echo $!"));
  await ended(leader);
  expect(isRunning(inner)).toBe(true);
  await removeAbandoned(parent.path);
  await ended(inner);
});

test("abandoned: folders are removed, except those of live processes", async () => {
  const script = `
    const { makeTempDir } = await import(${support("machine/temp-dir.ts")});
    return (await makeTempDir("e2e")).path;`;
  const [left = ""] = await killedAfter(script);
  const ours = await mkdtemp(join(parent.path, basename(tempDirPrefix("ours"))));
  expect(existsSync(left)).toBe(true);
  await removeAbandoned(parent.path);
  expect([existsSync(left), existsSync(ours)]).toEqual([false, true]);
});

test("abandoned: programs of live processes keep running", async () => {
  const child = startProcess(["sleep", "1000"]);
  const identity = `${identityOf(child.pid)}`;
  await removeAbandoned();
  expect(isRunning(identity)).toBe(true);
  await child.stop();
  expect(isRunning(identity)).toBe(false);
});
