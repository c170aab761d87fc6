/** A worker whose builds have limits, which the machine's administrator has set on a control group. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  type Deployment,
  type OrchestratorProcess,
  startDeployment,
} from "../support/blacktree/deployment.ts";
import {
  makeControlGroup,
  missingControlGroups,
  type TestControlGroup,
} from "../support/machine/control-groups.ts";
import { sampleRepository } from "../support/machine/sample-repository.ts";
import { type Backends, startBackends } from "../support/servers/backends.ts";
import { borrowDockerEngine } from "../support/servers/pool.ts";

const ACCOUNT = "210987654321";
const EATS_256_MB = 'RUN ["/bin/busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"]';
const reason = await missingControlGroups();

describe.skipIf(reason !== undefined)(`builds with limits${reason ? ` (${reason})` : ""}`, () => {
  let backends: Backends;
  let deployment: Deployment;
  let orchestrator: OrchestratorProcess;
  let group: TestControlGroup;

  beforeAll(async () => {
    group = await makeControlGroup({ memoryBytes: 2 ** 26, cpus: 1, processes: 64 });
    backends = await startBackends({ engine: "26.1" });
    backends.aws.addRepository(ACCOUNT, "app-images");
    const sample = await sampleRepository();
    await backends.git.createRepository("owner/working", sample);
    await backends.git.createRepository("owner/hungry", {
      ...sample,
      Dockerfile: `FROM scratch\nCOPY bin/busybox /bin/busybox\n${EATS_256_MB}\n`,
    });
    deployment = await startDeployment(backends);
    orchestrator = await deployment.startOrchestrator();
  });

  afterAll(async () => {
    await deployment?.stop();
    await backends?.stop();
    await group?.remove();
  });

  async function resultOf(repo_url: string) {
    const job = { repo_url, branch: "main", deployment_version: "v1", ecr_repo: "app-images" };
    await deployment.publish({ ...job, aws_account: ACCOUNT });
    return deployment.nextResult();
  }

  test("a worker logs the limits that it found, and its builds are limited by them", async () => {
    const worker = await deployment.startWorker(orchestrator, { BLACKTREE_BUILD_CGROUP: group.path });
    const logged = await worker.process.waitForLine("builds run in a control group");
    expect(JSON.parse(logged)).toMatchObject({
      group: group.path,
      limits: "memory 67 MB, CPUs 1, processes 64",
    });
    const { error } = await resultOf("owner/hungry");
    expect(error).toMatchObject({ code: "BUILD_FAILED", step: "build", retryable: false });
    expect(error?.message).toContain(`builds in ${group.path} `);
    expect(await resultOf("owner/working")).toMatchObject({ status: "SUCCESS" });
    await worker.process.stop();
  });

  test("a worker whose engine ignores control groups does not register, and logs the reason", async () => {
    const old = await borrowDockerEngine("20.10");
    try {
      const settings = { ...old.env(), BLACKTREE_BUILD_CGROUP: group.path };
      const worker = await deployment.launchWorker(orchestrator, settings);
      await worker.process.waitForLine(/20\.10\S* ignores control groups.*no usable builder; not reg/);
      expect(worker.process.lines.join("\n")).not.toContain('"msg":"registered"');
      await worker.process.stop();
    } finally {
      await old.stop();
    }
  });
});
