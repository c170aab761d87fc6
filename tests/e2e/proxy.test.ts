/** A job on a worker whose only way out is an HTTP proxy. The engine has a separate network, as on a build host. */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { chmod } from "node:fs/promises";
import { join } from "node:path";
import { type Binaries, compiledBinaries } from "../support/blacktree/binaries.ts";
import { type Deployment, startDeployment } from "../support/blacktree/deployment.ts";
import { inFullCheck } from "../support/machine/full-check.ts";
import { type IsolatedNetwork, isolatedNetwork } from "../support/machine/isolated-network.ts";
import { sampleRepository } from "../support/machine/sample-repository.ts";
import { makeTempDir, type TempDir } from "../support/machine/temp-dir.ts";
import { type Backends, startBackends } from "../support/servers/backends.ts";
import { startTinyproxy, type Tinyproxy } from "../support/servers/tinyproxy.ts";

const REPOSITORY = "owner/behind-a-proxy";

inFullCheck().describe("worker in a network whose only way out is a proxy", () => {
  let network: IsolatedNetwork;
  let backends: Backends;
  let dir: TempDir;
  let inNetwork: Binaries;
  let env: Record<string, string>;
  let deployment: Deployment;
  let proxy: Tinyproxy | undefined;

  beforeAll(async () => {
    network = await isolatedNetwork();
    dir = await makeTempDir("proxy-e2e");
    const ownDocker = { insecureRegistries: [`${network.beyond}/32`] };
    backends = await startBackends({ engine: "26.1", ownDocker });
    backends.aws.addRepository("1234567890", "app-images");
    await backends.git.createRepository(REPOSITORY, await sampleRepository());
    backends.aws.configure({ proxyEndpoint: await network.relay(backends.ecr.url) });
    const endpoint = await network.relay(backends.aws.endpoint);
    env = {
      BLACKTREE_GIT_BASE_URL: await network.relay(backends.git.baseUrl),
      AWS_ENDPOINT_URL_ECR: endpoint,
      AWS_ENDPOINT_URL_STS: endpoint,
      BLACKTREE_WORKER_LISTEN: `${network.guest}:0`,
      BLACKTREE_INSECURE: "true",
    };
    const compiled = await compiledBinaries();
    const worker = join(dir.path, "worker");
    await Bun.write(worker, `#!/bin/sh\nexec ${network.enter.join(" ")} ${compiled.worker} "$@"\n`);
    await chmod(worker, 0o755);
    inNetwork = { ...compiled, worker };
  });

  afterAll(async () => {
    await backends?.stop();
    await network?.remove();
    await dir?.remove();
  });

  afterEach(async () => {
    await deployment?.stop();
    await proxy?.stop();
    proxy = undefined;
  });

  async function resultOf(version: string, proxies: Record<string, string>) {
    deployment = await startDeployment(backends);
    const orchestrator = await deployment.startOrchestrator({
      BLACKTREE_GRPC_LISTEN: `${network.gateway}:0`,
      BLACKTREE_INSECURE: "true",
      BLACKTREE_GIT_BASE_URL: `${env.BLACKTREE_GIT_BASE_URL}`,
    });
    const grpcAddress = orchestrator.grpcAddress.replace("127.0.0.1", network.gateway);
    await deployment.startWorker({ grpcAddress }, { ...env, ...proxies }, inNetwork);
    await deployment.publish({
      repo_url: REPOSITORY,
      branch: "main",
      deployment_version: version,
      aws_account: "1234567890",
      ecr_repo: "app-images",
      timeout_seconds: 60,
    });
    return deployment.nextResult(240_000);
  }

  test.each([
    ["without a login", "HTTP_PROXY", undefined],
    ["with a login", "http_proxy", { user: "user", password: "pass-word" }],
  ] as const)("proxy: a job succeeds through one %s", async (_, variable, login) => {
    proxy = await startTinyproxy(network.gateway, login);
    const version = `by-${variable}`;
    const result = await resultOf(version, { [variable]: proxy.url });
    expect(result).toMatchObject({ status: "SUCCESS", error: null });
    expect((await backends.registry.getManifest("app-images", version))?.digest).toBe(
      `${result.image_digest}`,
    );
    if (login) expect(deployment.printed().join("\n")).not.toContain(login.password);
  });

  test("proxy: without it, nothing outside is reached", async () => {
    const { status, error } = await resultOf("direct", {});
    expect(status).toBe("FAILED");
    expect(error?.code).not.toBe("INTERNAL");
    expect(await backends.registry.getManifest("app-images", "direct")).toBeUndefined();
  });
});
