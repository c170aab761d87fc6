/** Files of an image have the modes that git records, whatever umask the worker was started with. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmod } from "node:fs/promises";
import { join } from "node:path";
import { compiledBinaries } from "../support/blacktree/binaries.ts";
import {
  type Deployment,
  type OrchestratorProcess,
  startDeployment,
} from "../support/blacktree/deployment.ts";
import { sampleRepository } from "../support/machine/sample-repository.ts";
import { makeTempDir, type TempDir } from "../support/machine/temp-dir.ts";
import { type Backends, startBackends } from "../support/servers/backends.ts";

const DOCKERFILE = [
  "FROM scratch",
  "COPY bin/busybox /bin/busybox",
  "COPY src /src",
  // With .git, which is the same for the same commit.
  "COPY . /app",
  'RUN ["/bin/busybox", "sh", "-c", "cd /app && /bin/busybox find . -exec /bin/busybox stat -c \'mode %a %F %n\' {} +"]',
  "",
].join("\n");

let backends: Backends;
let deployment: Deployment;
let orchestrator: OrchestratorProcess;
let folder: TempDir;

beforeAll(async () => {
  backends = await startBackends({ engine: "26.1" });
  backends.aws.addRepository("1234567890", "app-images");
  const files = { ...(await sampleRepository()), Dockerfile: DOCKERFILE, "src/deep/file.txt": "text\n" };
  await backends.git.createRepository("owner/modes", files);
  deployment = await startDeployment(backends);
  orchestrator = await deployment.startOrchestrator();
  folder = await makeTempDir("umask");
});

afterAll(async () => {
  await deployment?.stop();
  await backends?.stop();
  await folder?.remove();
});

/** The log of a job that a worker with this umask has built. */
async function built(umask: string): Promise<readonly string[]> {
  const binaries = await compiledBinaries();
  const worker = join(folder.path, `worker-${umask}`);
  await Bun.write(worker, `#!/bin/sh\numask ${umask}\nexec '${binaries.worker}' "$@"\n`);
  await chmod(worker, 0o755);
  const started = await deployment.startWorker(orchestrator, {}, { ...binaries, worker });
  const job = { branch: "main", aws_account: "1234567890", ecr_repo: "app-images" };
  await deployment.publish({ ...job, repo_url: "owner/modes", deployment_version: `umask-${umask}` });
  const result = await deployment.nextResult();
  expect(result).toMatchObject({ status: "SUCCESS", error: null });
  await started.process.stop();
  return result.logs;
}

test("files are 644 or 755 and folders 755 with umask 0077, and a worker with 0002 uses the same build cache", async () => {
  const log = await built("0077");
  const modes = log.flatMap((line) => /mode (\d+ .*)$/.exec(line)?.[1] ?? []);
  const ofFiles = modes.filter((line) => !line.includes("./.git"));
  expect(ofFiles.sort()).toEqual([
    "644 regular file ./Dockerfile",
    "644 regular file ./README.md",
    "644 regular file ./greeting",
    "644 regular file ./src/deep/file.txt",
    "755 directory .",
    "755 directory ./bin",
    "755 directory ./src",
    "755 directory ./src/deep",
    "755 regular file ./bin/busybox",
  ]);
  // Git makes its objects read-only.
  const ofGit = modes.filter((line) => line.includes("./.git"));
  expect(ofGit.length).toBeGreaterThan(0);
  expect(ofGit.filter((line) => !/^(755 directory|[64]44 regular file) /.test(line))).toEqual([]);

  const other = await built("0002");
  expect(other.filter((line) => line.endsWith(" CACHED"))).toHaveLength(
    DOCKERFILE.split("\n").filter((line) => /^(COPY|RUN) /.test(line)).length,
  );
});
