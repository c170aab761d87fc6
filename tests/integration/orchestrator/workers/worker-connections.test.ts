import { afterAll, beforeAll, expect, test } from "bun:test";
import pino from "pino";
import { WorkerClient } from "../../../../src/orchestrator/workers/worker-client.ts";
import { type RpcServer, serveRpc } from "../../../../src/shared/rpc/server.ts";
import type { TlsFiles } from "../../../../src/shared/rpc/tls.ts";
import { workerService } from "../../../../src/worker/control-plane/service.ts";
import { Journals } from "../../../../src/worker/runs/journals.ts";
import { Runs } from "../../../../src/worker/runs/runs.ts";
import { makeCertificates } from "../../../support/machine/certificates.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { startTcpProxy, type TcpProxy } from "../../../support/servers/tcp-proxy.ts";

let folder: TempDir;
let files: TlsFiles;
let server: RpcServer;
let proxy: TcpProxy;

beforeAll(async () => {
  folder = await makeTempDir("worker-client");
  const { caPath, server: own } = await makeCertificates(folder.path);
  const read = async (path: string) => Buffer.from(await Bun.file(path).bytes());
  files = { ca: await read(caPath), cert: await read(own.certPath), key: await read(own.keyPath) };
  const logger = pino({ level: "silent" });
  const runs = new Runs({
    slots: 1,
    logLimits: { keptBytes: 1, tail: { lines: 1, bytes: 1 } },
    journals: new Journals({ folder: folder.path, diskBytes: Number.POSITIVE_INFINITY, logger }),
    execute: () => Promise.reject(new Error("this test runs no job")),
    logger,
    keepFinishedMs: 1,
    keepFinishedCount: 1,
    abandonAfterMs: 1,
  });
  const identity = { workerId: "worker", incarnation: "incarnation" };
  const service = workerService({
    identity,
    runs,
    logger,
    beforeJob: async () => undefined,
    load: () => undefined,
    onPing: () => undefined,
  });
  server = await serveRpc([service], { host: "127.0.0.1", port: 0 }, files);
  proxy = await startTcpProxy(server);
});

afterAll(async () => {
  await proxy?.stop();
  await server?.stop(100);
  await folder?.remove();
});

test("under TLS, clients of one worker share their connection", async () => {
  const clients = [1, 2, 3].map(() => new WorkerClient(proxy.address, files));
  try {
    for (const client of clients) {
      expect(await client.ping({ reachesBroker: true }, 30_000)).toMatchObject({ workerId: "worker" });
    }
    expect(proxy.connections).toBe(1);
  } finally {
    for (const client of clients) client.close();
  }
});
