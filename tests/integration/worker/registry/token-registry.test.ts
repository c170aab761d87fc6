/** A registry that accepts only tokens, which a separate server issues for the password. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { StaticRegistryAuthenticator } from "../../../../src/worker/registry/static-registry.ts";
import { makeCertificates } from "../../../support/machine/certificates.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { missingDockerEngine } from "../../../support/servers/docker-engines.ts";
import { type Registry, startRegistry } from "../../../support/servers/registry.ts";
import { startTokenServer, type TokenServer } from "../../../support/servers/token-server.ts";
import { type PipelineBench, startPipelineBench } from "../pipeline/pipeline-bench.ts";

const reason = await missingDockerEngine("26.1");

describe.skipIf(reason !== undefined)(`a registry with tokens${reason ? ` (${reason})` : ""}`, () => {
  const credentials = { username: "builder", password: crypto.randomUUID() };
  let bench: PipelineBench;
  let dir: TempDir;
  let tokens: TokenServer;
  let registry: Registry;

  beforeAll(async () => {
    dir = await makeTempDir("tokens");
    const { server: signer, caPath } = await makeCertificates(dir.path);
    tokens = await startTokenServer({ ...credentials, signer });
    [bench, registry] = await Promise.all([
      startPipelineBench({ engine: "26.1" }),
      startRegistry({ tokens: { server: tokens, caPath } }),
    ]);
  });
  afterAll(async () => {
    await Promise.all([bench?.stop(), registry?.stop(), tokens?.stop()]);
    await dir?.remove();
  });

  const start = (repoUrl: string, password: string, job: object = {}) => {
    const authenticator = new StaticRegistryAuthenticator({
      registry: registry.url,
      credentials: { ...credentials, password },
    });
    return bench.start({ repoUrl, ...job }, { parts: { authenticator, reuseKeys: [Buffer.alloc(32, 1)] } });
  };

  test("stores a job's image, and returns an existing version", async () => {
    const { name } = await bench.createSample();
    const first = start(name, credentials.password);
    const made = await first.end;
    expect(made).toMatchObject({
      status: "SUCCESS",
      imageUrl: `${registry.host}/${first.job.ecrRepo}:${first.job.deploymentVersion}`,
    });
    const again = start(name, credentials.password, { ...first.job, attempt: 2 });
    expect(await again.end).toMatchObject({ status: "SUCCESS", imageDigest: made.imageDigest });
    expect(again.states).not.toContain("BUILDING");
  });

  test("a wrong password fails before the build", async () => {
    const { name } = await bench.createSample();
    const run = start(name, "wrong");
    expect(await run.end).toMatchObject({
      status: "FAILED",
      failure: { code: "ECR_AUTH", retryable: false },
    });
    expect(run.states).not.toContain("BUILDING");
  });
});
