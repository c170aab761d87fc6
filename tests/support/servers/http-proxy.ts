/** An HTTP proxy: the only one who can resolve names that end with `.test`, which all lead to this machine. */
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";

export interface HttpProxy {
  /** With user and password, if it asks for them. */
  readonly url: string;
  /** `GET http://…`, or `CONNECT host:port`, of requests that it has let through. */
  readonly requests: readonly string[];
  /** Requests without the right user and password, or to other hosts. */
  readonly refused: readonly string[];
  stop(): Promise<void>;
}

const CHALLENGE = { "Proxy-Authenticate": 'Basic realm="proxy"' };

export async function startHttpProxy(login?: { user: string; password: string }): Promise<HttpProxy> {
  const requests: string[] = [];
  const refused: string[] = [];
  const open = new Set<Socket>();
  const expected = login && `Basic ${btoa(`${login.user}:${login.password}`)}`;

  /** The status of a refusal. */
  const refusal = ({ method, url, headers }: IncomingMessage, host: string): number | undefined => {
    const isAllowed = expected === undefined || headers["proxy-authorization"] === expected;
    const status = isAllowed ? (host.endsWith(".test") ? undefined : 403) : 407;
    (status === undefined ? requests : refused).push(`${method} ${url}`);
    return status;
  };

  const server = createServer((incoming: IncomingMessage, response: ServerResponse) => {
    const target = new URL(incoming.url ?? "");
    const status = refusal(incoming, target.hostname);
    if (status !== undefined) return void response.writeHead(status, CHALLENGE).end();
    const headers = { ...incoming.headers };
    for (const name of ["proxy-authorization", "proxy-connection"]) delete headers[name];
    const options = { host: "127.0.0.1", port: target.port, path: target.pathname + target.search };
    const outgoing = httpRequest({ ...options, method: incoming.method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    outgoing.on("error", () => response.writeHead(502).end());
    incoming.pipe(outgoing);
  });
  server.on("connection", (socket) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket));
  });
  server.on("connect", (incoming: IncomingMessage, client: Socket, head: Buffer) => {
    const [host = "", port] = (incoming.url ?? "").split(":");
    const status = refusal(incoming, host);
    if (status !== undefined)
      return void client.end(
        `HTTP/1.1 ${status} Refused\r\nProxy-Authenticate: ${CHALLENGE["Proxy-Authenticate"]}\r\n\r\n`,
      );
    const target = connect({ host: "127.0.0.1", port: Number(port) }, () => {
      client.write("HTTP/1.1 200 Connection established\r\n\r\n");
      target.write(head);
      target.pipe(client);
      client.pipe(target);
    });
    for (const socket of [client, target])
      socket
        .on("error", () => undefined)
        .on("close", () => [client, target].forEach((each) => void each.destroy()));
  });
  await new Promise<void>((resolve) => server.listen({ host: "127.0.0.1", port: 0 }, resolve));
  const { port } = server.address() as AddressInfo;
  const userinfo = login ? `${encodeURIComponent(login.user)}:${encodeURIComponent(login.password)}@` : "";
  return {
    url: `http://${userinfo}127.0.0.1:${port}`,
    requests,
    refused,
    async stop() {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
