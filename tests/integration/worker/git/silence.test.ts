import { expect, test } from "bun:test";
import { SilenceWatch, signOfLife } from "../../../../src/worker/git/silence.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";

/** Runs a shell script as a process group during `work`. */
async function withGroup(
  script: string,
  work: (group: number, write: (text: string) => void) => Promise<void>,
) {
  const child = Bun.spawn(["/bin/sh", "-c", script], { stdin: "pipe", stdout: "ignore", detached: true });
  try {
    await work(child.pid, (text) => {
      child.stdin.write(text);
      child.stdin.flush();
    });
  } finally {
    process.kill(-child.pid, "SIGKILL");
    await child.exited;
  }
}

/** The sign of a group whose processes wait. */
async function waitingSign(group: number): Promise<string> {
  let last = "";
  const isSame = async () => {
    const [before, sign] = [last, await signOfLife(group)];
    last = sign;
    return sign !== "" && sign === before;
  };
  await waitFor(isSame, { timeoutMs: 30_000, what: "the processes to wait" });
  return last;
}

async function changed(group: number, from: string): Promise<void> {
  const hasChanged = async () => (await signOfLife(group)) !== from;
  await waitFor(hasChanged, { timeoutMs: 30_000, what: "a sign of life" });
}

test("each byte that reaches a process of the group is a sign of life", async () => {
  await withGroup("cat | cat", async (group, write) => {
    for (let sent = 0; sent < 3; sent++) {
      const sign = await waitingSign(group);
      write("x");
      await changed(group, sign);
    }
  });
});

test("computing is a sign of life", async () => {
  await withGroup("while :; do :; done", async (group) => {
    await changed(group, await signOfLife(group));
  });
});

test("a standstill of the worker, or of its machine, does not count as silence", async () => {
  await withGroup("cat | cat", async (group, write) => {
    await waitingSign(group);
    const watch = new SilenceWatch(1000);
    watch.begin(group);
    for (let standstill = 0; standstill < 2; standstill++) {
      // Two looks at the processes take as long as a check of the watch, which is due after the standstill.
      for (let look = 0; look < 2; look++) await waitingSign(group);
      Bun.sleepSync(1100);
      const sign = await waitingSign(group);
      write("x");
      await changed(group, sign);
    }
    watch.end();
    expect(watch.signal.aborted).toBe(false);
  });
});
