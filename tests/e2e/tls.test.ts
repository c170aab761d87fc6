/** gRPC between orchestrator and worker: with mutual TLS, or on this machine alone. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { ChannelCredentials, type Client, status } from "@grpc/grpc-js";
import { callUnary } from "../../src/shared/rpc/call.ts";
import { OrchestratorServiceClient } from "../../src/shared/rpc/generated/blacktree/v1/orchestrator.ts";
import { WorkerServiceClient } from "../../src/shared/rpc/generated/blacktree/v1/worker.ts";
import {
  ServerReflectionClient,
  type ServerReflectionResponse,
} from "../../src/shared/rpc/generated/grpc/reflection/v1/reflection.ts";
import {
  HealthCheckResponse_ServingStatus,
  HealthClient,
} from "../../src/shared/rpc/generated/health/v1/health.ts";
import { apiRequest } from "../support/blacktree/admin-api.ts";
import { type Binaries, compiledBinaries } from "../support/blacktree/binaries.ts";
import {
  type Deployment,
  type OrchestratorProcess,
  shownWorkers,
  startDeployment,
  type WorkerProcess,
} from "../support/blacktree/deployment.ts";
import {
  type CertificateFiles,
  type Certificates,
  makeCertificates,
} from "../support/machine/certificates.ts";
import { run } from "../support/machine/processes.ts";
import { sampleRepository } from "../support/machine/sample-repository.ts";
import { makeTempDir, type TempDir } from "../support/machine/temp-dir.ts";
import { type Backends, startBackends } from "../support/servers/backends.ts";

const CALL_DEADLINE_MS = 30_000;

let backends: Backends;
let folder: TempDir;
let certificates: Certificates;

beforeAll(async () => {
  [backends, folder] = await Promise.all([startBackends({ engine: "26.1" }), makeTempDir("tls")]);
  certificates = await makeCertificates(folder.path);
  backends.aws.addRepository("1234567890", "app-images");
  await backends.git.createRepository("owner/working", await sampleRepository());
});

afterAll(async () => {
  await backends?.stop();
  await folder?.remove();
});

/** A program's three TLS settings. */
function tlsEnv(caPath: string, { certPath, keyPath }: CertificateFiles): Record<string, string> {
  return { BLACKTREE_TLS_CA: caPath, BLACKTREE_TLS_CERT: certPath, BLACKTREE_TLS_KEY: keyPath };
}

function clientCredentials(caPath: string, files?: CertificateFiles): ChannelCredentials {
  const [ca, key, cert] = [caPath, files?.keyPath, files?.certPath].map((path) =>
    path === undefined ? null : readFileSync(path),
  );
  return ChannelCredentials.createSsl(ca, key, cert);
}

const byName = (address: string) => address.replace("127.0.0.1", "localhost");

const clients: Client[] = [];
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
});

function opened<Opened extends Client>(client: Opened): Opened {
  clients.push(client);
  return client;
}

describe("with TLS", () => {
  let deployment: Deployment;
  let orchestrator: OrchestratorProcess;
  let worker: WorkerProcess;

  beforeAll(async () => {
    deployment = await startDeployment(backends);
    const { caPath, server, client } = certificates;
    orchestrator = await deployment.startOrchestrator(tlsEnv(caPath, server));
    worker = await deployment.startWorker(orchestrator, tlsEnv(caPath, client));
  });
  afterAll(() => deployment?.stop());

  test("a job is built", async () => {
    await deployment.publish({
      repo_url: "owner/working",
      branch: "main",
      deployment_version: "v-tls",
      aws_account: "1234567890",
      ecr_repo: "app-images",
    });
    const result = await deployment.nextResult();
    expect(result).toMatchObject({ status: "SUCCESS", worker_id: worker.id });
    // The log of the first orchestrator is read by another one.
    const other = await deployment.startOrchestrator(tlsEnv(certificates.caPath, certificates.server));
    const path = `/api/v1/jobs/${result.job_id}/logs?format=raw`;
    const log = new Uint8Array(await (await apiRequest(other.apiUrl, path)).arrayBuffer());
    const sha256 = new Bun.CryptoHasher("sha256").update(log).digest("hex");
    expect({ bytes: log.length, sha256 }).toEqual({ bytes: result.log.bytes, sha256: result.log.sha256 });
    await other.process.stop();
  });

  const untrusted = [
    {
      what: "a worker of another authority",
      env: () => tlsEnv(certificates.foreign.caPath, certificates.foreign.client),
    },
    {
      what: "a worker that trusts our authority, but has a certificate of another one",
      env: () => tlsEnv(certificates.caPath, certificates.foreign.client),
    },
    { what: "a worker without TLS", env: () => ({}) },
  ];
  test.each(untrusted)("$what is rejected", async ({ env }) => {
    const intruder = await deployment.launchWorker(orchestrator, env());
    await intruder.process.waitForLine("no orchestrator answers");
    expect((await shownWorkers(orchestrator)).map(({ id }) => id)).toEqual([worker.id]);
    await intruder.process.stop();
    expect(intruder.process.lines.join("\n")).not.toContain('"msg":"registered"');
  });

  const callers = [
    { what: "in plain text", credentials: () => ChannelCredentials.createInsecure() },
    { what: "without a certificate", credentials: () => clientCredentials(certificates.caPath) },
    {
      what: "with a foreign certificate",
      credentials: () => clientCredentials(certificates.caPath, certificates.foreign.client),
    },
  ];
  test("a server whose certificate names another address is rejected", async () => {
    const { caPath, server, client } = certificates;
    const everywhere = { ...tlsEnv(caPath, server), BLACKTREE_GRPC_LISTEN: "0.0.0.0:0" };
    const other = await deployment.startOrchestrator(everywhere);
    const unnamed = { grpcAddress: other.grpcAddress.replace("127.0.0.1", "127.0.0.2") };
    const careful = await deployment.launchWorker(unnamed, tlsEnv(caPath, client));
    // An earlier attempt may have ended at its deadline.
    await careful.process.waitForLine(/127\.0\.0\.2 is not in the cert's list.*no orchestrator answers/);
    expect((await shownWorkers(other)).map(({ id }) => id)).toEqual([worker.id]);
    await Promise.all([careful.process.stop(), other.process.stop()]);
  });

  test.each(callers)("a caller $what can call neither server", async ({ credentials }) => {
    const toWorker = opened(new WorkerServiceClient(byName(worker.address), credentials()));
    const toOrchestrator = opened(
      new OrchestratorServiceClient(byName(orchestrator.grpcAddress), credentials()),
    );
    const limits = { deadlineMs: CALL_DEADLINE_MS };
    const calls = await Promise.allSettled([
      callUnary(toWorker.ping.bind(toWorker), { reachesBroker: true }, limits),
      callUnary(
        toOrchestrator.deregister.bind(toOrchestrator),
        { workerId: worker.id, incarnation: worker.incarnation },
        limits,
      ),
    ]);
    for (const call of calls)
      expect(call).toMatchObject({ status: "rejected", reason: { code: status.UNAVAILABLE } });
  });

  test("a caller with a certificate of our authority can call both", async () => {
    const credentials = () => clientCredentials(certificates.caPath, certificates.client);
    const toWorker = opened(new WorkerServiceClient(byName(worker.address), credentials()));
    const { workerId, incarnation } = await callUnary(
      toWorker.ping.bind(toWorker),
      { reachesBroker: true },
      { deadlineMs: CALL_DEADLINE_MS },
    );
    expect({ workerId, incarnation }).toEqual({ workerId: worker.id, incarnation: worker.incarnation });
    expect(await healthOf(byName(orchestrator.grpcAddress), credentials(), "")).toBe(
      HealthCheckResponse_ServingStatus.SERVING,
    );
  });
});

describe("without TLS, on this machine", () => {
  let deployment: Deployment;
  let addresses: { orchestrator: string; worker: string };

  beforeAll(async () => {
    deployment = await startDeployment(backends);
    const orchestrator = await deployment.startOrchestrator();
    const worker = await deployment.startWorker(orchestrator);
    addresses = { orchestrator: orchestrator.grpcAddress, worker: worker.address };
  });
  afterAll(() => deployment?.stop());

  const servers = [
    { program: "orchestrator", service: "blacktree.v1.OrchestratorService" },
    { program: "worker", service: "blacktree.v1.WorkerService" },
  ] as const;

  test.each(servers)("the $program reports its health", async ({ program, service }) => {
    const insecure = ChannelCredentials.createInsecure();
    for (const name of ["", service])
      expect(await healthOf(addresses[program], insecure, name)).toBe(
        HealthCheckResponse_ServingStatus.SERVING,
      );
    const unknown = healthOf(addresses[program], insecure, "no.such.Service");
    expect(await unknown.catch((error) => error)).toMatchObject({ code: status.NOT_FOUND });
  });

  test.each(servers)("the $program describes its service", async ({ program, service }) => {
    const address = addresses[program];
    const listed = await reflect(address, { listServices: "" });
    const names = listed.listServicesResponse?.service.map(({ name }) => name);
    expect(names?.filter((name) => name.startsWith("blacktree."))).toEqual([service]);
    expect(names).toContain("grpc.health.v1.Health");
    const described = await reflect(address, { fileContainingSymbol: service });
    const files = described.fileDescriptorResponse?.fileDescriptorProto ?? [];
    expect(files.map((file) => file.toString("latin1")).join("")).toContain(service.split(".").at(-1) ?? "");
  });
});

async function healthOf(
  address: string,
  credentials: ChannelCredentials,
  service: string,
): Promise<HealthCheckResponse_ServingStatus> {
  const client = opened(new HealthClient(address, credentials));
  const answer = await callUnary(client.check.bind(client), { service }, { deadlineMs: CALL_DEADLINE_MS });
  return answer.status;
}

function reflect(
  address: string,
  question: { listServices?: string; fileContainingSymbol?: string },
): Promise<ServerReflectionResponse> {
  const client = opened(new ServerReflectionClient(address, ChannelCredentials.createInsecure()));
  const call = client.serverReflectionInfo();
  const answer = new Promise<ServerReflectionResponse>((resolve, reject) => {
    call.once("data", resolve);
    call.once("error", reject);
  });
  call.write({ host: "", ...question });
  call.end();
  return answer;
}

describe("TLS settings", () => {
  let binaries: Binaries;
  const programs = [
    {
      program: "orchestrator",
      listen: "BLACKTREE_GRPC_LISTEN",
      env: { RABBITMQ_URL: "amqp://127.0.0.1:1", REDIS_URL: "redis://127.0.0.1:1" },
    },
    {
      program: "worker",
      listen: "BLACKTREE_WORKER_LISTEN",
      env: { BLACKTREE_ORCHESTRATOR_ADDR: "127.0.0.1:1", BLACKTREE_WORKER_REGION: "us-east-1" },
    },
  ] as const;

  beforeAll(async () => {
    binaries = await compiledBinaries();
  });

  /** Starts a program with valid settings except for TLS. */
  const start = (program: "orchestrator" | "worker", args: readonly string[], env: Record<string, string>) =>
    run([binaries[program], ...args], { cwd: folder.path, env, mayFail: true });

  test.each(programs)("the $program refuses to listen beyond this machine without TLS", async (given) => {
    const { exitCode, stdout, stderr } = await start(given.program, [], {
      ...given.env,
      [given.listen]: "0.0.0.0:0",
    });
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    expect(stderr).toContain(`${given.listen} = "0.0.0.0": would serve gRPC beyond this machine without TLS`);
    expect(stderr).toContain("BLACKTREE_INSECURE=true");
  });

  test.each(programs)("the $program requires all three files", async (given) => {
    const { exitCode, stderr } = await start(given.program, [], {
      ...given.env,
      BLACKTREE_TLS_CA: certificates.caPath,
      BLACKTREE_TLS_KEY: "/no/such.key",
    });
    expect(exitCode).toBe(2);
    expect(stderr).toContain("BLACKTREE_TLS_CERT: is not set while other TLS files are");
    expect(stderr).toContain('BLACKTREE_TLS_KEY = "/no/such.key": cannot be read (ENOENT)');
  });

  test("BLACKTREE_INSECURE=true lets both listen everywhere", async () => {
    const deployment = await startDeployment(backends);
    try {
      const insecure = { BLACKTREE_INSECURE: "true" };
      const orchestrator = await deployment.startOrchestrator({
        ...insecure,
        BLACKTREE_GRPC_LISTEN: "0.0.0.0:0",
      });
      const worker = await deployment.startWorker(orchestrator, {
        ...insecure,
        BLACKTREE_WORKER_LISTEN: "0.0.0.0:0",
      });
      expect(worker.address).not.toStartWith("0.0.0.0");
      expect((await shownWorkers(orchestrator)).map(({ id }) => id)).toEqual([worker.id]);
    } finally {
      await deployment.stop();
    }
  });
});
