import { afterEach, beforeEach, expect, test } from "bun:test";
import { connect, createServer, type Server, type Socket } from "node:net";
import { freePort } from "../../support/free-port.ts";
import { startTcpProxy, type TcpProxy } from "../../support/tcp-proxy.ts";
import { waitFor } from "../../support/wait-for.ts";

/** Long enough for anything that would pass to have passed. */
const A_WHILE_MS = 200;

let server: Server;
let accepted: Socket[];
let proxy: TcpProxy;
let client: Client;

/** A connection through the proxy to a server that sends everything back. */
interface Client {
  readonly socket: Socket;
  received: string;
  isClosed: boolean;
}

function connectClient(): Client {
  const socket = connect({ host: "127.0.0.1", port: proxy.port });
  const opened: Client = { socket, received: "", isClosed: false };
  socket.on("data", (chunk) => (opened.received += chunk.toString()));
  socket.on("error", () => undefined);
  socket.on("close", () => (opened.isClosed = true));
  return opened;
}

const received = (from: Client, text: string) =>
  waitFor(() => from.received === text, { timeoutMs: 2000, what: `"${text}" to come back` });
const closed = (what: Client) =>
  waitFor(() => what.isClosed, { timeoutMs: 2000, what: "the connection to close" });

beforeEach(async () => {
  accepted = [];
  server = createServer((socket) => {
    accepted.push(socket);
    socket.on("error", () => undefined);
    socket.pipe(socket);
  });
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen({ host: "127.0.0.1", port }, resolve));
  proxy = await startTcpProxy({ port });
  client = connectClient();
  client.socket.write("before ");
  await received(client, "before ");
});

afterEach(async () => {
  client.socket.destroy();
  await proxy.stop();
  server.close();
});

test("an open way passes everything on, also the end", async () => {
  const long = "x".repeat(3_000_000);
  client.socket.end(long);
  await received(client, `before ${long}`);
  await closed(client);
});

test("a cut keeps everything back, and closes nothing; healed, it goes on where it was", async () => {
  proxy.cut();
  client.socket.write("during ");
  const late = connectClient();
  late.socket.write("late");
  await Bun.sleep(A_WHILE_MS);
  expect([client.received, client.isClosed]).toEqual(["before ", false]);
  expect([late.received, late.isClosed, accepted.length]).toEqual(["", false, 1]);
  proxy.heal();
  await received(client, "before during ");
  await received(late, "late");
  late.socket.destroy();
});

test("who gives up during a cut is not noticed at the other end before it heals, and what it had sent is lost", async () => {
  let arrived = "";
  accepted[0]?.on("data", (chunk) => (arrived += chunk.toString()));
  const serverSide = accepted[0];
  proxy.cut();
  client.socket.write("too late");
  client.socket.destroy();
  await Bun.sleep(A_WHILE_MS);
  expect(serverSide?.destroyed).toBe(false);
  proxy.heal();
  await waitFor(() => serverSide?.destroyed, { timeoutMs: 2000, what: "the server's side to close" });
  expect(arrived).toBe("");
});

test("a reset breaks every connection, and new ones until it heals", async () => {
  proxy.reset();
  await closed(client);
  const refused = connectClient();
  await closed(refused);
  proxy.heal();
  client = connectClient();
  client.socket.write("again");
  await received(client, "again");
});

test("with the server away, connections close", async () => {
  for (const socket of accepted) socket.destroy();
  server.close();
  await closed(client);
  await closed(connectClient());
});
