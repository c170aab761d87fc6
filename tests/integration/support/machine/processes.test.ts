import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { CommandFailed, run, startProcess } from "../../../support/machine/processes.ts";
import { programLogsRoot } from "../../../support/machine/program-logs.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";

async function isRunning(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "State:\tX");
  return !/^State:\t[XZ]/m.test(status);
}

const gone = (pid: number) =>
  waitFor(async () => !(await isRunning(pid)), { timeoutMs: 60_000, what: `process ${pid} to end` });

const module = JSON.stringify(require.resolve("../../../support/machine/processes.ts"));

const shell = (script: string) => startProcess(["sh", "-c", script]);

test("startProcess collects the lines of both streams, and waitForLine finds them", async () => {
  const child = shell("echo one; echo two >&2; sleep 1000");
  expect(await child.waitForLine(/^two$/)).toBe("two");
  await waitFor(() => child.stdoutLines.length > 0, { timeoutMs: 60_000, what: "the other stream" });
  expect(child.stdoutLines).toEqual(["one"]);
  expect(child.stderrLines).toEqual(["two"]);
  await child.stop();
  expect(await child.exited).toBe(143);
});

test("waitForLine fails with the program's output when the line never appears", async () => {
  const child = shell("echo something else; exit 3");
  await expect(child.waitForLine("never")).rejects.toThrow("something else");
  expect(await child.exited).toBe(3);
});

test("the output is complete when a program's exit is reported", async () => {
  const child = shell("(while kill -0 $$ 2>/dev/null; do :; done; echo late) & echo early");
  expect(await child.exited).toBe(0);
  expect(child.lines).toEqual(["early", "late"]);
});

test("stop ends grandchildren too, and processes that ignore SIGTERM", async () => {
  const child = shell("trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000");
  const grandchild = Number(await child.waitForLine(/^\d+$/));
  await child.stop(100);
  await gone(grandchild);
  expect(await child.exited).toBe(137);
});

test("no process of a paused group runs any more when pause returns", async () => {
  const child = shell("for i in 1 2 3 4; do while :; do :; done & echo $!; done; echo up; wait");
  await child.waitForLine("up");
  const pids = child.lines.filter((line) => line !== "up");
  const states = () => pids.map((pid) => /\) (.)/.exec(readFileSync(`/proc/${pid}/stat`, "latin1"))?.[1]);
  for (let round = 0; round < 20; round++) {
    child.pause();
    expect(states()).toEqual(["T", "T", "T", "T"]);
    child.resume();
  }
  await child.stop();
});

test("stop ends a paused process", async () => {
  const child = shell("echo up; sleep 1000");
  await child.waitForLine("up");
  child.pause();
  await child.stop();
  expect(await child.exited).toBe(143);
});

test("the kernel ends a program when the test run that started it is killed", async () => {
  const starter = startProcess([
    process.execPath,
    "-e",
    `const { startProcess } = await import(${module});
     const program = startProcess(["sh", "-c", "echo up; exec sleep 1000"]);
     // Before it runs, setpriv may not have asked the kernel yet.
     await program.waitForLine("up");
     process.stdout.write("pid " + program.pid + "\\n");
     setInterval(() => undefined, 1_000);`,
  ]);
  const pid = Number((await starter.waitForLine(/^pid \d+$/)).slice(4));
  expect(await isRunning(pid)).toBe(true);
  process.kill(starter.pid, "SIGKILL");
  await gone(pid);
});

test("the logs of a script's programs are not those of another script", async () => {
  const texts = [crypto.randomUUID(), crypto.randomUUID()];
  for (const text of texts) {
    const script = `await (await import(${module})).startProcess(["echo", "${text}"]).exited;`;
    await run([process.execPath, "-e", script]);
  }
  const logs = await Array.fromAsync(
    new Bun.Glob("*eval*/*-echo.log").scan({ cwd: programLogsRoot, absolute: true }),
  );
  const kept = (await Promise.all(logs.map((log) => readFile(log, "utf8")))).join("");
  for (const text of texts) expect(kept).toContain(text);
});

test("run returns output and status, or throws an error with both", async () => {
  expect(await run(["sh", "-c", "cat; echo warning >&2"], { stdin: "in" })).toEqual({
    exitCode: 0,
    stdout: "in",
    stderr: "warning\n",
  });
  await expect(run(["sh", "-c", "echo broken; exit 4"])).rejects.toThrow(CommandFailed);
  expect((await run(["sh", "-c", "exit 4"], { mayFail: true })).exitCode).toBe(4);
  await expect(run(["sleep", "1000"], { timeoutMs: 50 })).rejects.toThrow("was ended after 50 ms");
});
