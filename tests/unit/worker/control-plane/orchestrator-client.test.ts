import { afterEach, expect, test } from "bun:test";
import { status } from "@grpc/grpc-js";
import pino from "pino";
import { RpcError } from "../../../../src/shared/rpc/status.ts";
import { Orchestrators } from "../../../../src/worker/control-plane/orchestrator-client.ts";

type Client = Parameters<Parameters<Orchestrators["ask"]>[0]>[0];

const FAULT = new RpcError(status.UNAVAILABLE, "the connection is lost");

let orchestrators: Orchestrators;
afterEach(() => orchestrators.close());

/** A call whose answer the test decides, and the client that it uses. No client connects before a real call. */
function call() {
  const answer = Promise.withResolvers<string>();
  let used: Client | undefined;
  const ended = orchestrators.ask((client) => {
    used = client;
    return answer.promise;
  });
  return { ...answer, ended, client: () => used };
}

test("a call that fails late does not close the connection that another call has opened since", async () => {
  orchestrators = new Orchestrators([{ host: "127.0.0.1", port: 1 }], undefined, pino({ level: "silent" }));
  const [first, late] = [call(), call()];
  first.reject(FAULT);
  await expect(first.ended).rejects.toThrow("no orchestrator reachable");
  const next = call();
  late.reject(FAULT);
  await expect(late.ended).rejects.toThrow("no orchestrator reachable");
  const later = call();
  for (const { resolve } of [next, later]) resolve("answer");
  expect(await Promise.all([next.ended, later.ended])).toEqual(["answer", "answer"]);
  expect(first.client() === late.client()).toBe(true);
  expect(next.client() === first.client()).toBe(false);
  expect(later.client() === next.client()).toBe(true);
});
