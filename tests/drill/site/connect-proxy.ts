/**
 * An HTTP proxy that forwards connections (CONNECT). An orchestrator's calls to all workers go through one, so that
 * this orchestrator alone can lose the workers.
 */
import { createServer, type IncomingMessage, type Server } from "node:http";
import { connect, type Socket } from "node:net";
import { freePort } from "../../support/machine/free-port.ts";

export interface ConnectProxy {
  readonly port: number;
  stop(): Promise<void>;
}

export async function startConnectProxy(): Promise<ConnectProxy> {
  const open = new Set<Socket>();
  const server: Server = createServer();
  server.on("connect", (request: IncomingMessage, client: Socket, head: Buffer) => {
    const port = Number(request.url?.split(":")[1]);
    const target = connect({ host: "127.0.0.1", port });
    for (const socket of [client, target]) {
      open.add(socket);
      // Only the close that follows counts.
      socket.on("error", () => undefined);
      socket.on("close", () => {
        open.delete(socket);
        client.destroy();
        target.destroy();
      });
    }
    target.once("connect", () => {
      client.write("HTTP/1.1 200 Connection established\r\n\r\n");
      target.write(head);
      target.pipe(client);
      client.pipe(target);
    });
  });
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen({ host: "127.0.0.1", port }, resolve));
  return {
    port,
    async stop() {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
