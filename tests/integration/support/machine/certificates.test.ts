import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect, createServer, type Server } from "node:tls";
import {
  type CertificateFiles,
  type Certificates,
  makeCertificates,
} from "../../../support/machine/certificates.ts";
import { freePort } from "../../../support/machine/free-port.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";

let dir: TempDir;
let certificates: Certificates;
let server: Server;
let port: number;

const read = (path: string) => Bun.file(path).text();

beforeAll(async () => {
  dir = await makeTempDir("tls");
  certificates = await makeCertificates(dir.path, { names: ["registry.example.com"] });
  port = await freePort();
  server = createServer({
    cert: await read(certificates.server.certPath),
    key: await read(certificates.server.keyPath),
    ca: await read(certificates.caPath),
    requestCert: true,
    rejectUnauthorized: true,
  });
  server.on("secureConnection", (socket) => {
    socket.on("error", () => undefined);
    socket.end("welcome");
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
});
afterAll(async () => {
  server.close();
  await dir.remove();
});

async function greet(client: CertificateFiles, caPath: string, servername = "localhost"): Promise<string> {
  const [cert, key, ca] = await Promise.all([client.certPath, client.keyPath, caPath].map(read));
  return new Promise((resolve) => {
    let received = "";
    const socket = connect({ host: "127.0.0.1", port, servername, cert, key, ca });
    socket.on("data", (chunk) => {
      received += chunk;
    });
    socket.on("error", () => resolve("refused"));
    socket.on("close", () => resolve(received || "refused"));
  });
}

test("client and server accept each other's certificates, for every name", async () => {
  expect(await greet(certificates.client, certificates.caPath)).toBe("welcome");
  expect(await greet(certificates.client, certificates.caPath, "registry.example.com")).toBe("welcome");
});

test("a server refuses a client of a foreign authority", async () => {
  expect(await greet(certificates.foreign.client, certificates.caPath)).toBe("refused");
});

test("a client that trusts another authority refuses the server", async () => {
  expect(await greet(certificates.client, certificates.foreign.caPath)).toBe("refused");
  expect(await greet(certificates.client, certificates.caPath, "other.example.com")).toBe("refused");
});
