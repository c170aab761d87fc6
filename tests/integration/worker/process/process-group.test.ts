import { describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { type GroupCommand, runInGroup } from "../../../../src/worker/process/process-group.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";

function shell(script: string, options: Partial<GroupCommand> = {}) {
  return runInGroup({
    argv: ["/bin/sh", "-c", script],
    cwd: "/tmp",
    environment: { PATH: process.env.PATH ?? "" },
    signal: new AbortController().signal,
    ...options,
  });
}

async function isAlive(pid: string): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
  return status !== undefined && !/\) Z /.test(status);
}

const ended = (pid: string) =>
  waitFor(async () => !(await isAlive(pid)), { timeoutMs: 30_000, what: `process ${pid} to end` });

describe("runInGroup", () => {
  test("returns the exit status and each stream's last lines", async () => {
    const end = await shell("echo out; echo err >&2; exit 3");
    expect(end).toEqual({ exitCode: 3, stdoutTail: ["out"], stderrTail: ["err"] });
  });

  test("passes lines on as they arrive, ended by newline, carriage return or the end", async () => {
    const lines: string[] = [];
    await shell("printf 'a\\r\\nb\\rc\\n\\nd'", { onLine: (line) => lines.push(line) });
    expect(lines).toEqual(["a", "b", "c", "", "d"]);
  });

  test("splits a line that never ends into parts of the given length", async () => {
    const lines: string[] = [];
    const endless = "head -c 100000 /dev/zero | tr '\\0' x";
    await shell(endless, { onLine: (line) => lines.push(line) });
    expect(lines.length).toBeGreaterThan(1);
    expect(lines.join("")).toBe("x".repeat(100_000));
    const { stdoutTail } = await shell(endless, { maxLineChars: 60_000 });
    expect(stdoutTail.map((line) => line.length)).toEqual([60_000, 40_000]);
  });

  test("keeps the last lines of each stream, by their number and their length", async () => {
    const { stdoutTail } = await shell("seq 1000");
    expect(stdoutTail).toEqual(Array.from({ length: 200 }, (_, index) => String(801 + index)));
    const long = await shell("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end", {
      maxLineChars: 2_000_000,
    });
    expect(long.stdoutTail.map((line) => line.length)).toEqual([1_000_000, 3]);
  });

  test("passes only the given environment to the child", async () => {
    const { stdoutTail } = await shell("env", { environment: { PATH: "/usr/bin:/bin", ONLY: "this" } });
    const names = stdoutTail
      .map((line) => line.split("=")[0])
      .filter((name) => !["PWD", "_", "SHLVL"].includes(name ?? ""));
    expect(names.toSorted()).toEqual(["ONLY", "PATH"]);
  });

  test("ends the whole group when aborted, and throws the reason", async () => {
    const abort = new AbortController();
    const pids: string[] = [];
    const run = shell("echo $$; sleep 1000 & echo $!; wait", {
      signal: abort.signal,
      onLine: (pid) => pids.push(pid),
    });
    run.catch(() => undefined);
    await waitFor(() => pids.length === 2, { timeoutMs: 30_000, what: "both processes" });
    const reason = new Error("the reason");
    abort.abort(reason);
    await expect(run).rejects.toBe(reason);
    await run.catch(() => undefined);
    for (const pid of pids) await ended(pid);
  });

  test("kills a process that ignores SIGTERM", async () => {
    const abort = new AbortController();
    const pids: string[] = [];
    const run = shell("trap '' TERM; echo $$; while :; do sleep 0.1; done", {
      signal: abort.signal,
      onLine: (pid) => pids.push(pid),
      stopGraceMs: 50,
    });
    run.catch(() => undefined);
    await waitFor(() => pids.length === 1, { timeoutMs: 30_000, what: "the process" });
    abort.abort(new Error("the reason"));
    await expect(run).rejects.toThrow("the reason");
    await run.catch(() => undefined);
    for (const pid of pids) await ended(pid);
  });

  test("does not wait for a grandchild that keeps the streams open, and ends it", async () => {
    const { stdoutTail, exitCode } = await shell("sleep 1000 & echo $!");
    expect(exitCode).toBe(0);
    await ended(stdoutTail[0] ?? "");
  });

  test("starts nothing when the signal is already aborted", async () => {
    const signal = AbortSignal.abort(new Error("the reason"));
    await expect(shell("echo no", { signal })).rejects.toThrow("the reason");
  });

  test("a program that prints faster than it is read does not block timers", async () => {
    const printedChars = 16_000_000;
    let passedChars = 0;
    let maxPassedChars = 0;
    const onLine = (line: string) => {
      passedChars += line.length;
      maxPassedChars = Math.max(maxPassedChars, passedChars);
      // During this time the pipe fills up again.
      Bun.sleepSync(2);
    };
    const counting = setInterval(() => {
      passedChars = 0;
    }, 0);
    await shell(`head -c ${printedChars} /dev/zero`, { onLine });
    clearInterval(counting);
    // Without a turn of the event loop after each chunk, nearly all output would be passed on at once.
    expect(maxPassedChars).toBeLessThan(printedChars / 2);
  });
});
