import { afterEach, beforeEach, expect, test } from "bun:test";
import { createServer, type Http2Server, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { credentials } from "@grpc/grpc-js";
import { callUnary } from "../../../../src/shared/rpc/call.ts";
import { WorkerServiceClient } from "../../../../src/shared/rpc/generated/blacktree/v1/worker.ts";
import { isTransportFault } from "../../../../src/shared/rpc/status.ts";

let server: Http2Server;
let client: WorkerServiceClient;
let answer: (stream: ServerHttp2Stream) => void;

beforeEach(async () => {
  server = createServer();
  server.on("stream", (stream) => answer(stream as ServerHttp2Stream));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  client = new WorkerServiceClient(`127.0.0.1:${port}`, credentials.createInsecure());
});

afterEach(() => {
  client.close();
  server.close();
});

const pinged = () =>
  callUnary(client.ping.bind(client), { reachesBroker: true }, { deadlineMs: 30_000 }).catch(
    (error: unknown) => error,
  );

test("a stream that the peer closes without an answer is a transport fault", async () => {
  answer = (stream) => stream.close(0);
  expect(isTransportFault(await pinged())).toBe(true);
});

test("an INTERNAL status that the peer sends is not a transport fault", async () => {
  answer = (stream) =>
    stream.respond(
      { ":status": 200, "content-type": "application/grpc", "grpc-status": "13", "grpc-message": "a bug" },
      { endStream: true },
    );
  const error = await pinged();
  expect(error).toMatchObject({ message: "a bug" });
  expect(isTransportFault(error)).toBe(false);
});
