import { afterEach, beforeEach, expect, test } from "bun:test";
import { connect, createServer, type Server, type Socket } from "node:net";
import { freePort } from "../../../support/machine/free-port.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { startTcpProxy, type TcpProxy } from "../../../support/servers/tcp-proxy.ts";

/** Through an open proxy: earlier data that can pass through the tested proxy has passed after them. */
const ROUND_TRIPS = 5;

let server: Server;
let serverPort: number;
let accepted: Socket[];
let proxy: TcpProxy;
let client: Client;

/** A connection through the proxy to an echo server. */
interface Client {
  readonly socket: Socket;
  received: string;
  isClosed: boolean;
}

function connectClient(through: Pick<TcpProxy, "port"> = proxy): Client {
  const socket = connect({ host: "127.0.0.1", port: through.port });
  const opened: Client = { socket, received: "", isClosed: false };
  socket.on("data", (chunk) => (opened.received += chunk.toString()));
  socket.on("error", () => undefined);
  socket.on("close", () => (opened.isClosed = true));
  return opened;
}

const received = (from: Client, text: string) =>
  waitFor(() => from.received === text, { timeoutMs: 60_000, what: `"${text}" to be echoed` });
const closed = (what: Client) =>
  waitFor(() => what.isClosed, { timeoutMs: 60_000, what: "the connection to close" });

/** Waits for round trips through another, open proxy: a busy machine slows both down. */
async function untilItCouldHavePassed(): Promise<void> {
  const open = await startTcpProxy({ port: serverPort });
  const other = connectClient(open);
  for (let trips = 1; trips <= ROUND_TRIPS; trips += 1) {
    other.socket.write("x");
    await received(other, "x".repeat(trips));
  }
  other.socket.destroy();
  await open.stop();
}

beforeEach(async () => {
  accepted = [];
  server = createServer((socket) => {
    accepted.push(socket);
    socket.on("error", () => undefined);
    socket.pipe(socket);
  });
  serverPort = await freePort();
  await new Promise<void>((resolve) => server.listen({ host: "127.0.0.1", port: serverPort }, resolve));
  proxy = await startTcpProxy({ port: serverPort });
  client = connectClient();
  client.socket.write("before ");
  await received(client, "before ");
});

afterEach(async () => {
  client.socket.destroy();
  await proxy.stop();
  server.close();
});

test("an open proxy passes all data on, also the end", async () => {
  const long = "x".repeat(3_000_000);
  client.socket.end(long);
  await received(client, `before ${long}`);
  await closed(client);
});

test("a cut holds all data back and closes no connection; after heal() the data passes on", async () => {
  proxy.cut();
  client.socket.write("during ");
  const late = connectClient();
  late.socket.write("late");
  await untilItCouldHavePassed();
  expect([client.received, client.isClosed]).toEqual(["before ", false]);
  expect([late.received, late.isClosed]).toEqual(["", false]);
  // The first connection, and the one through the open proxy.
  expect(accepted).toHaveLength(2);
  proxy.heal();
  await received(client, "before during ");
  await received(late, "late");
  late.socket.destroy();
});

test("a cut of requests passes answers on, and a cut of answers passes requests on", async () => {
  let arrived = "";
  accepted[0]?.on("data", (chunk) => (arrived += chunk.toString()));
  proxy.cut("requests");
  client.socket.write("held ");
  accepted[0]?.write("pushed ");
  await received(client, "before pushed ");
  expect(arrived).toBe("");
  proxy.heal();
  await received(client, "before pushed held ");

  proxy.cut("answers");
  client.socket.write("passed");
  await waitFor(() => arrived === "held passed", { timeoutMs: 60_000, what: "the request" });
  expect(client.received).toBe("before pushed held ");
  proxy.heal();
  await received(client, "before pushed held passed");
});

test.each([
  [false, "before one "],
  [true, "before one two "],
])(
  "a cut at a moment holds what follows it, and its own chunk unless that is passed (%p)",
  async (isPassed, left) => {
    const matches = (chunk: Buffer) => chunk.includes("two");
    const cut = proxy.cutAt({ matches, isPassed }, "requests");
    client.socket.write("one ");
    await received(client, "before one ");
    client.socket.write("two ");
    expect(await cut.happened).toBeGreaterThan(0);
    client.socket.write("three");
    await received(client, left);
    await untilItCouldHavePassed();
    expect(client.received).toBe(left);
    proxy.heal();
    await received(client, "before one two three");
  },
);

test("a cut that is cancelled before its moment does not happen", async () => {
  proxy.cutAt({ matches: () => true, isPassed: false }).cancel();
  client.socket.write("passes");
  await received(client, "before passes");
});

test("a client that closes during a cut is noticed at the other end only after heal(), and its data is lost", async () => {
  let arrived = "";
  accepted[0]?.on("data", (chunk) => (arrived += chunk.toString()));
  const serverSide = accepted[0];
  proxy.cut();
  client.socket.write("too late");
  client.socket.destroy();
  await untilItCouldHavePassed();
  expect(serverSide?.destroyed).toBe(false);
  proxy.heal();
  await waitFor(() => serverSide?.destroyed, { timeoutMs: 60_000, what: "the server's side to close" });
  expect(arrived).toBe("");
});

test("a reset breaks every connection, and new ones until heal()", async () => {
  proxy.reset();
  await closed(client);
  const refused = connectClient();
  await closed(refused);
  proxy.heal();
  client = connectClient();
  client.socket.write("again");
  await received(client, "again");
});

test("connections close while the server is down", async () => {
  for (const socket of accepted) socket.destroy();
  server.close();
  await closed(client);
  await closed(connectClient());
});
