import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmod, mkdir, readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import pino from "pino";
import type { ImageBuilder } from "../../../src/worker/buildkit/builder.ts";
import { bootId, claimRunsFolder, recoverFromCrashes } from "../../../src/worker/crash-recovery.ts";
import { CheckoutCache } from "../../../src/worker/git/checkout-cache.ts";
import type { RegistryAuthenticator } from "../../../src/worker/registry/access.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";
import { waitFor } from "../../support/machine/wait-for.ts";

let workDir: TempDir;

beforeEach(async () => {
  workDir = await makeTempDir("crash-recovery");
});
afterEach(() => workDir.remove());

/** A builder that pushes by digest, and leaves no images on the host. */
const BUILDER = { kind: "direct", removeImages: async () => undefined } as unknown as ImageBuilder;

/** Without run folders the registry is not called. */
async function recover(builder = BUILDER): Promise<string[]> {
  await recoverFromCrashes({
    workDir: workDir.path,
    builder,
    authenticator: {} as RegistryAuthenticator,
    checkoutCache: new CheckoutCache({ workDir: workDir.path, limitBytes: 0, bootId: await bootId() }),
    environment: {},
    logger: pino({ level: "silent" }),
  });
  return (await readdir(join(workDir.path, "runs"))).toSorted();
}

async function writeOwner(incarnation: string, owner: string): Promise<void> {
  const folder = join(workDir.path, "runs", incarnation);
  await mkdir(folder, { recursive: true });
  await Bun.write(join(folder, "owner.json"), owner);
}

async function statOf(pid: number): Promise<string[]> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

test("the folder of a live worker is kept until the worker removes it", async () => {
  const folder = await claimRunsFolder(workDir.path, "mine");
  expect(await recover()).toEqual(["mine"]);
  await folder.remove();
  expect(await recover()).toEqual([]);
});

test("the folder of a worker that has just begun to start is kept", async () => {
  const incarnations = Array.from({ length: 100 }, (_, index) => `starts-${index}`);
  for (const incarnation of incarnations) {
    let isClaimed = false;
    const claimed = claimRunsFolder(workDir.path, incarnation).finally(() => {
      isClaimed = true;
    });
    while (!isClaimed) await recover().catch(() => []);
    await claimed;
  }
  expect(await recover()).toEqual(incarnations.toSorted());
});

test("a folder that a crashed worker has not finished is removed", async () => {
  await mkdir(join(workDir.path, "runs", `mine.${process.pid}-1`), { recursive: true });
  expect(await recover()).toEqual([]);
});

test("the folder of a zombie process is removed", async () => {
  // The shell becomes a program that never reaps its child.
  const parent = Bun.spawn(["sh", "-c", "sleep 0 & echo $!; exec sleep 60"], { stdout: "pipe" });
  try {
    const { value } = await parent.stdout.getReader().read();
    const pid = Number(new TextDecoder().decode(value));
    const isZombie = async () => (await statOf(pid))[0] === "Z";
    await waitFor(isZombie, { timeoutMs: 30_000, what: "the child to have ended" });
    const startTicks = (await statOf(pid))[19];
    await writeOwner("unreaped", JSON.stringify({ pid, startTicks, bootId: await bootId() }));
    expect(await recover()).toEqual([]);
  } finally {
    parent.kill();
    await parent.exited;
  }
});

test.each([
  ["of another process with the same id", { pid: process.pid, startTicks: "1" }],
  ["of a process before the machine's last start", { pid: process.pid, bootId: "before" }],
])("a folder %s is removed", async (_, changes) => {
  const own = { startTicks: (await statOf(process.pid))[19], bootId: await bootId() };
  await writeOwner("old", JSON.stringify({ ...own, ...changes }));
  expect(await recover()).toEqual([]);
});

test("the logs of a crashed worker's runs are removed, and are not taken for a run", async () => {
  await writeOwner("crashed", JSON.stringify({ pid: process.pid, startTicks: "1", bootId: await bootId() }));
  const { logs } = await claimRunsFolder(workDir.path, "mine");
  const ofCrashed = join(workDir.path, "runs/crashed", basename(logs));
  await mkdir(ofCrashed, { mode: 0o700 });
  await Bun.write(join(ofCrashed, "0123456789abcdef-1.jsonl"), "{}\n");
  // An image or a tag of a run would be removed with the builder.
  const removeImages = () => Promise.reject(new Error("there was no run"));
  expect(await recover({ ...BUILDER, removeImages })).toEqual(["mine"]);
});

test("a folder with an incomplete owner file is removed", async () => {
  await writeOwner("cut-off", '{"pid":');
  expect(await recover()).toEqual([]);
});

test("a worker that is killed while it asks docker leaves neither a folder nor the docker command", async () => {
  const asked = join(workDir.path, "asked");
  const docker = join(workDir.path, "bin/docker");
  await Bun.write(docker, `#!/bin/sh\necho $$ >${asked}.new; mv ${asked}.new ${asked}; exec sleep 60\n`);
  await chmod(docker, 0o755);
  const module = join(import.meta.dir, "../../../src/worker/prepare-builder.ts");
  const settings = {
    workDir: workDir.path,
    builder: { kind: "engine" },
    builderOptions: [],
    buildNetwork: "default",
  };
  const environment = { PATH: `${join(workDir.path, "bin")}:/usr/bin:/bin` };
  const program = `
    const { detect } = await import(${JSON.stringify(module)});
    await detect(${JSON.stringify({ settings, environment })}, new AbortController().signal);
  `;
  const worker = Bun.spawn([process.execPath, "-e", program]);
  try {
    await waitFor(() => Bun.file(asked).exists(), { timeoutMs: 30_000, what: "docker to be asked" });
  } finally {
    worker.kill("SIGKILL");
    await worker.exited;
  }
  expect(await recover()).toEqual([]);
  expect((await readdir(workDir.path)).toSorted()).toEqual(["asked", "bin", "runs"]);
  const pid = Number(await Bun.file(asked).text());
  const hasEnded = async () => !/^[RSD]$/.test((await statOf(pid).catch(() => ["X"]))[0] ?? "");
  await waitFor(hasEnded, { timeoutMs: 30_000, what: "docker to have ended" });
});
