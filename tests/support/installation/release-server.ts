/** Serves a release over HTTP on loopback, with faults in the answers. */
import { readFile } from "node:fs/promises";
import { createServer, type RequestListener, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join, normalize } from "node:path";
import type { CertificateFiles } from "../machine/certificates.ts";

/** A status, a connection that is cut within the file, or other bytes of the same length. */
export type Fault = number | "cut" | "damaged";

export interface ReleaseServer {
  readonly url: string;
  /** Paths without the leading slash, in the order of the requests. */
  readonly requests: readonly string[];
  /** Each fault is used for one request of the path, then the file is served. */
  addFaults(path: string, ...faults: readonly Fault[]): void;
  clearFaults(): void;
  close(): Promise<void>;
}

export async function serveRelease(dir: () => string, tls?: CertificateFiles): Promise<ReleaseServer> {
  const requests: string[] = [];
  const faults = new Map<string, Fault[]>();
  const listener: RequestListener = (request, response) => {
    const path = normalize(decodeURIComponent(request.url ?? "/")).slice(1);
    requests.push(path);
    void answer(response, join(dir(), path), faults.get(path)?.shift());
  };
  const server =
    tls === undefined
      ? createServer(listener)
      : createTlsServer({ cert: await readFile(tls.certPath), key: await readFile(tls.keyPath) }, listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `${tls === undefined ? "http" : "https"}://127.0.0.1:${port}`,
    requests,
    addFaults: (path, ...added) => void faults.set(path, [...(faults.get(path) ?? []), ...added]),
    clearFaults: () => faults.clear(),
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function answer(response: ServerResponse, file: string, fault: Fault | undefined): Promise<void> {
  const content = await readFile(file).catch(() => undefined);
  if (typeof fault === "number" || content === undefined) {
    response.writeHead(typeof fault === "number" ? fault : 404).end();
    return;
  }
  response.setHeader("content-length", content.length);
  if (fault === "cut") {
    response.write(content.subarray(0, content.length / 2), () => response.destroy());
    return;
  }
  if (fault === "damaged") content[content.length - 1] = (content.at(-1) ?? 0) ^ 1;
  response.end(content);
}
