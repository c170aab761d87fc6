/** The service's handlers are called without a connection. */
import { expect, test } from "bun:test";
import { status } from "@grpc/grpc-js";
import pino from "pino";
import { orchestratorService } from "../../../src/orchestrator/service.ts";
import type { WorkerManager } from "../../../src/orchestrator/worker-manager.ts";
import type { RpcAddress } from "../../../src/shared/rpc/address.ts";
import { WorkerInfo } from "../../../src/shared/rpc/generated/blacktree/v1/orchestrator.ts";

/** The status of a registration with an orchestrator that listens there. */
function registration(
  grpcListen: RpcAddress,
  address: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<status> {
  const { implementation } = orchestratorService({
    workers: { register: async () => "registered" } as unknown as WorkerManager,
    logs: { readOwn: async () => undefined },
    times: { pingIntervalMs: 1000, leaseTtlMs: 5000 },
    grpcListen,
    logger: pino({ level: "silent" }),
  });
  const request = WorkerInfo.fromPartial({
    workerId: "w",
    incarnation: "i",
    region: "us-east-1",
    slots: 1,
    address,
    labels,
  });
  const register = implementation.register as (call: object, answer: (error: unknown) => void) => void;
  const call = { request, on: () => undefined, getPath: () => "" };
  return new Promise((resolve) =>
    register(call, (error) => resolve(error === null ? status.OK : (error as { code: status }).code)),
  );
}

const PORT = { host: "127.0.0.1", port: 5051 };
const SOCKET = { path: "/state/sockets/orchestrator" };

test.each([
  [PORT, "10.0.0.1:6000", status.OK],
  // The orchestrator would connect to any socket of its machine, such as Docker's.
  [PORT, "unix:/var/run/docker.sock", status.INVALID_ARGUMENT],
  [SOCKET, "unix:/state/sockets/worker", status.OK],
  [SOCKET, "unix:relative", status.INVALID_ARGUMENT],
])("on %j, a worker at %s registers with status %d", async (listen, address, expected) => {
  expect(await registration(listen, address)).toBe(expected);
});

test.each([
  [{ rack: "7" }, status.OK],
  [{ rack: "7\n8" }, status.INVALID_ARGUMENT],
  [{ "a b": "7" }, status.INVALID_ARGUMENT],
])("a worker with the labels %j registers with status %d", async (labels, expected) => {
  expect(await registration(PORT, "10.0.0.1:6000", labels)).toBe(expected);
});
