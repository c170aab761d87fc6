/** A worker whose jobs push to the operator's registry, with a login, instead of ECR. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  type Deployment,
  type OrchestratorProcess,
  startDeployment,
  type WorkerProcess,
} from "../support/blacktree/deployment.ts";
import { sampleRepository } from "../support/machine/sample-repository.ts";
import { type Backends, startBackends } from "../support/servers/backends.ts";
import { type Registry, startRegistry } from "../support/servers/registry.ts";

let backends: Backends;
let registry: Registry;
let deployment: Deployment;
let orchestrator: OrchestratorProcess;

beforeAll(async () => {
  [backends, registry] = await Promise.all([
    startBackends({ engine: "26.1" }),
    startRegistry({ credentials: { username: "somebody", password: `registry-${crypto.randomUUID()}` } }),
  ]);
  await backends.git.createRepository("owner/working", await sampleRepository());
  deployment = await startDeployment(backends);
  orchestrator = await deployment.startOrchestrator();
});

afterAll(async () => {
  await deployment?.stop();
  await Promise.all([backends?.stop(), registry?.stop()]);
});

/** In a separate region, so that it is known which worker runs which job. */
function startWorker(region: string, password: string): Promise<WorkerProcess> {
  return deployment.startWorker(orchestrator, {
    BLACKTREE_WORKER_REGION: region,
    BLACKTREE_REGISTRY: registry.host,
    BLACKTREE_REGISTRY_USERNAME: registry.username,
    BLACKTREE_REGISTRY_PASSWORD: password,
  });
}

async function resultFrom(region: string) {
  await deployment.publish({
    repo_url: "owner/working",
    branch: "main",
    deployment_version: "v1",
    aws_account: "210987654321",
    ecr_repo: `images-${region}`,
    worker_region: region,
    region_policy: "require",
  });
  return deployment.nextResult();
}

test("named registry: a job's image is pushed to it, whatever the job's account, and AWS is not called", async () => {
  await startWorker("cellar", registry.password);
  const result = await resultFrom("cellar");
  expect(result).toMatchObject({ status: "SUCCESS", image_url: `${registry.host}/images-cellar:v1` });
  const stored = await registry.getManifest("images-cellar", "v1");
  expect(stored?.digest).toBe(`${result.image_digest}`);
  expect(backends.aws.calls).toEqual([]);
  expect(`${deployment.printed().join("\n")}${JSON.stringify(result)}`).not.toContain(registry.password);
});

test("named registry: a job fails before its build when the registry refuses the login", async () => {
  await startWorker("attic", "a-wrong-password");
  const { error, timings_ms } = await resultFrom("attic");
  expect(error).toMatchObject({ code: "ECR_AUTH", step: "authenticate", retryable: false });
  expect(error?.message).toContain(registry.host);
  expect(timings_ms.build).toBe(0);
});
