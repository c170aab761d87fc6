import { test } from "bun:test";
import { signOfLife } from "../../../../src/worker/git/silence.ts";
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
