import { afterAll, expect, test } from "bun:test";
import { type AddressInfo, createServer, type Server } from "node:net";
import { join } from "node:path";
import { connectTo } from "../../../../../src/worker/buildkit/builders/endpoint.ts";
import { makeTempDir } from "../../../../support/machine/temp-dir.ts";

const dir = await makeTempDir("endpoint");
const servers: Server[] = [];
afterAll(async () => {
  for (const server of servers) server.close();
  await dir.remove();
});

async function listen(at: { path: string } | { host: string; port: number }): Promise<Server> {
  const server = createServer((socket) => socket.destroy());
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(at, resolve));
  return server;
}

test("a standstill of the worker does not count as a time without a connection", async () => {
  const path = join(dir.path, "engine.sock");
  await listen({ path });
  const host = "127.0.0.1";
  const { port } = (await listen({ host, port: 0 })).address() as AddressInfo;
  for (const endpoint of [{ path }, { host, port }])
    for (let time = 0; time < 3; time++) {
      const connected = connectTo(endpoint, 60);
      Bun.sleepSync(90);
      expect(await connected).toBeUndefined();
    }
});
