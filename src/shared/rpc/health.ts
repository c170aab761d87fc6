/**
 * The standard health service, grpc.health.v1.Health
 * (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
 * The package grpc-health-check reads its .proto from disk when it is loaded, and a compiled binary does not have that
 * file; so only stubs generated from the .proto are used.
 */
import { type Server, type ServerWritableStream, status } from "@grpc/grpc-js";
import {
  type HealthCheckRequest,
  type HealthCheckResponse,
  type HealthServer,
  HealthService,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "./generated/health/v1/health.ts";

export interface ServedHealth {
  /** From now on every service answers NOT_SERVING; watchers receive it too, and their streams end. */
  stopServing(): void;
}

type Watcher = ServerWritableStream<HealthCheckRequest, HealthCheckResponse>;

/** The empty name stands for the server as a whole. */
export function addHealthService(server: Server, serviceNames: readonly string[]): ServedHealth {
  const known = new Set(["", ...serviceNames]);
  const watchers = new Set<Watcher>();
  let current = ServingStatus.SERVING;

  const implementation: HealthServer = {
    check(call, callback) {
      if (known.has(call.request.service)) callback(null, { status: current });
      else
        callback({
          code: status.NOT_FOUND,
          details: `unknown service ${JSON.stringify(call.request.service)}`,
        });
    },
    list(_call, callback) {
      callback(null, { statuses: Object.fromEntries([...known].map((name) => [name, { status: current }])) });
    },
    watch(call) {
      call.write({ status: known.has(call.request.service) ? current : ServingStatus.SERVICE_UNKNOWN });
      watchers.add(call);
      call.on("cancelled", () => watchers.delete(call));
    },
  };
  server.addService(HealthService, implementation);
  return {
    stopServing() {
      current = ServingStatus.NOT_SERVING;
      for (const watcher of watchers) {
        watcher.write({ status: current });
        watcher.end();
      }
    },
  };
}
