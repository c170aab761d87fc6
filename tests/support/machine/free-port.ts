import { createServer } from "node:net";

// Below the kernel's ephemeral range (32768 and up), so that neither an outgoing connection nor a `port: 0` listener of
// another test can take the port between this answer and the server that is then started on it.
const lowestPort = 12_000;
const highestPort = 32_000;

/** A name in the kernel's list of sockets that is this process's until it ends; false when it is another one's. */
export function reserve(name: string): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(`\0blacktree-test-${name}`, () => {
      server.unref();
      resolve(true);
    });
  });
}

function canListen(port: number, host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** A TCP port without a listener, also for a server that is killed and started again. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = lowestPort + Math.floor(Math.random() * (highestPort - lowestPort));
    // No other test gets the port meanwhile.
    if (!(await reserve(`port-${port}`))) continue;
    if ((await canListen(port, "127.0.0.1")) && (await canListen(port, "0.0.0.0"))) return port;
  }
  throw new Error(`no free TCP port found between ${lowestPort} and ${highestPort}`);
}
