/** Runs on disks that really fill: the engine's data and the work folder, on small disks. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import pino from "pino";
import { engineFolders } from "../../../../src/worker/buildkit/builders/engine-folders.ts";
import { buildCachePruner } from "../../../../src/worker/buildkit/prune-cache.ts";
import { DiskWatch } from "../../../../src/worker/disk/disk-watch.ts";
import type { RunEnd } from "../../../../src/worker/pipeline/run-end.ts";
import { childEnvironment } from "../../../../src/worker/process/child-environment.ts";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { noise } from "../../../support/machine/noise.ts";
import { type RepositoryFiles, sampleRepository } from "../../../support/machine/sample-repository.ts";
import {
  makeSmallDisk,
  missingSmallDisks,
  type SmallDisk,
  smallDiskAt,
} from "../../../support/machine/small-disk.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { type DockerEngineName, missingDockerEngine } from "../../../support/servers/docker-engines.ts";
import { type PipelineBench, startPipelineBench } from "./pipeline-bench.ts";

const MB = 1e6;
const RESERVE = { bytes: 20 * MB, inodes: 50 };
const neverAborted = new AbortController().signal;
const missingDisks = await missingSmallDisks();
const engines: readonly DockerEngineName[] = ["26.1", "20.10"];

function busyboxStep(script: string): string {
  return `FROM scratch\nCOPY bin/busybox /bin/busybox\nRUN ${JSON.stringify(["/bin/busybox", "sh", "-c", script])}\n`;
}

for (const engine of engines) {
  const ofEngine = inFullCheck(engine !== engines[0]);
  const reason = missingDisks ?? (await missingDockerEngine(engine));
  describe.skipIf(reason !== undefined)(
    `full disks with Docker ${engine}${reason ? ` (${reason})` : ""}`,
    () => {
      let bench: PipelineBench;
      let scratch: TempDir;
      let disks: DiskWatch;
      let engineDisk: Omit<SmallDisk, "remove">;

      beforeAll(async () => {
        bench = await startPipelineBench({ engine, dataDisk: { sizeMiB: 128, inodes: 6000 } });
        scratch = await makeTempDir("prune");
        engineDisk = smallDiskAt(bench.engine.dataRoot);
        disks = await watchOf(bench.workDir);
      });

      afterEach(async () => {
        await engineDisk.removeFillers();
        await untilRoom();
      });
      afterAll(async () => {
        await bench?.stop();
        await scratch?.remove();
      });

      /** The engine deletes a step's files some time after the step has ended. */
      async function untilRoom(): Promise<void> {
        await waitFor(async () => (await engineDisk.freeBytes()) >= 2 * RESERVE.bytes, {
          timeoutMs: 50_000,
          what: "the engine to free its disk",
        });
      }

      async function watchOf(workDir: string): Promise<DiskWatch> {
        const hostEnvironment = bench.engine.env();
        const folders = await engineFolders({ hostEnvironment, home: scratch.path, signal: neverAborted });
        expect(folders).toEqual([bench.engine.dataRoot]);
        const watch = new DiskWatch({ reserve: RESERVE, logger: pino({ level: "silent" }) });
        watch.addDisk({ role: "the work folder", path: workDir });
        for (const path of folders) watch.addDisk({ role: "docker's data", path });
        const environment = childEnvironment(hostEnvironment, scratch.path);
        watch.addPruner(
          buildCachePruner(async () => bench.builder, folders, { cwd: scratch.path, environment }),
        );
        return watch;
      }

      async function runOf(files: RepositoryFiles, parts: { workDir?: string } = {}): Promise<RunEnd> {
        const name = bench.unique("acme/disk");
        const sample = await sampleRepository({ greeting: name });
        await bench.git.createRepository(name, { ...sample, ...files });
        const watch = parts.workDir === undefined ? disks : await watchOf(parts.workDir);
        return bench.start({ repoUrl: name }, { parts: { ...parts, disks: watch } }).end;
      }

      async function expectDiskFull(end: RunEnd, step: string): Promise<void> {
        expect(end).toMatchObject({
          status: "FAILED",
          failure: { code: "DISK_FULL", step, retryable: true },
        });
        expect(await bench.leftFolders()).toEqual([]);
      }

      test("a step that fills the disk is a DISK_FULL, though the step reports only its exit status", async () => {
        const script = "/bin/busybox dd if=/dev/zero of=/filling bs=1M; /bin/busybox sleep 2; exit 5";
        const end = await runOf({ Dockerfile: busyboxStep(script) });
        await expectDiskFull(end, "build");
        expect(end.failure?.message).toMatch(/exit code: 5 \(the disk of docker's data, .* left\)/);
        await untilRoom();
        expect(await runOf({})).toMatchObject({ status: "SUCCESS" });
      });

      ofEngine.test("a step that fails while the disk has free space is the job's own fault", async () => {
        const end = await runOf({ Dockerfile: busyboxStep("echo No space left on device; exit 5") });
        expect(end).toMatchObject({ failure: { code: "BUILD_FAILED", retryable: false } });
      });

      ofEngine.test("a step that runs out of inodes is a DISK_FULL", async () => {
        const script =
          "i=0; while /bin/busybox mkdir /d$i; do i=$((i+1)); done; /bin/busybox sleep 2; exit 5";
        await engineDisk.fillInodes(300);
        await expectDiskFull(await runOf({ Dockerfile: busyboxStep(script) }), "build");
      });

      ofEngine.test(
        "files that do not fit on the engine's disk are a DISK_FULL with the engine's message",
        async () => {
          await engineDisk.fill(4 * MB);
          const end = await runOf({ large: noise(8 * MB), Dockerfile: "FROM scratch\nCOPY large /large\n" });
          await expectDiskFull(end, "build");
          expect(end.failure?.message).toContain("no space left on device");
        },
      );

      test("below the reserve, build cache is removed until enough space is free", async () => {
        for (const letter of ["a", "b"]) {
          const script = `/bin/busybox dd if=/dev/zero of=/${letter} bs=1M count=12`;
          expect(await runOf({ Dockerfile: busyboxStep(script) })).toMatchObject({ status: "SUCCESS" });
        }
        await engineDisk.fill(8 * MB);
        await disks.check(neverAborted);
        expect(disks.refusal).toBeUndefined();
        expect(await engineDisk.freeBytes()).toBeGreaterThanOrEqual(RESERVE.bytes);
      });

      ofEngine.describe("the work folder", () => {
        let disk: SmallDisk;

        afterEach(() => disk?.remove());

        test("too small for the repository's objects: DISK_FULL, and no files remain", async () => {
          disk = await makeSmallDisk({ sizeMiB: 12 });
          const end = await runOf({ large: noise(14 * MB) }, { workDir: disk.path });
          await expectDiskFull(end, "clone");
          expect(await readdir(join(disk.path, "runs/bench"))).toEqual([]);
        });

        test("too small for the files of the repository: DISK_FULL", async () => {
          disk = await makeSmallDisk({ sizeMiB: 16 });
          await expectDiskFull(await runOf({ large: noise(9 * MB) }, { workDir: disk.path }), "clone");
          expect(await readdir(join(disk.path, "runs/bench"))).toEqual([]);
        });

        test("without enough inodes: DISK_FULL", async () => {
          disk = await makeSmallDisk({ sizeMiB: 16, inodes: 192 });
          const many = Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`many/${index}`, "x"]));
          await expectDiskFull(await runOf(many, { workDir: disk.path }), "clone");
          expect(await readdir(join(disk.path, "runs/bench"))).toEqual([]);
        });
      });
    },
  );
}
