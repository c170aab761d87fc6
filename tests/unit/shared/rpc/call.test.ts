import { expect, test } from "bun:test";
import { clientOptions } from "../../../../src/shared/rpc/call.ts";

const PROXY = "http://proxy.example:3128";

test.each([
  ["worker.example:6000", { grpc_proxy: PROXY }, 1],
  ["10.0.0.5:6000", { grpc_proxy: PROXY }, 1],
  ["[fd00::5]:6000", { grpc_proxy: PROXY }, 1],
  ["worker.example:6000", { http_proxy: PROXY, https_proxy: PROXY }, 0],
  ["worker.example:6000", { grpc_proxy: "" }, 0],
  ["localhost:6000", { grpc_proxy: PROXY }, 0],
  ["127.0.0.2:6000", { grpc_proxy: PROXY }, 0],
  ["[::1]:6000", { grpc_proxy: PROXY }, 0],
] as const)("gRPC to %s with %j: proxy %i", (address, variables, enabled) => {
  expect(clientOptions(address, variables)["grpc.enable_http_proxy"]).toBe(enabled);
});
