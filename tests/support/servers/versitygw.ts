/** A server with the protocol of S3 that keeps objects as files. It is in no package, so it is compiled from its Go module. */
import { mkdir } from "node:fs/promises";
import { arch } from "node:os";
import { join } from "node:path";
import { cachedFolder, isFilled, testCacheFolder } from "../machine/cached-folder.ts";
import { freePort } from "../machine/free-port.ts";
import { compileTimeoutMs, findGo, goModule } from "../machine/go.ts";
import { run, startProcess, type TestProcess } from "../machine/processes.ts";
import { makeTempDir } from "../machine/temp-dir.ts";
import { waitFor } from "../machine/wait-for.ts";

const version = "v1.8.0";
const program = "versitygw";

/** Compiles it if it is not compiled yet: about 2 minutes of processor time, once per machine. */
async function findProgram(): Promise<string> {
  const folder = join(testCacheFolder(), `${program}-${version}-${arch()}`);
  if (await isFilled(folder, program)) return join(folder, program);
  const go = findGo();
  if (go === null)
    throw new Error(`Go is not installed, which compiles ${program}; install Go 1.25 or later`);
  await cachedFolder(folder, program, async (unfinished) => {
    const sources = await goModule(go, `github.com/versity/versitygw@${version}`);
    const output = join(unfinished, program);
    await run(
      [
        go,
        ...["build", "-C", sources, "-o", output, "-trimpath", "-buildvcs=false", "-ldflags=-s -w"],
        "./cmd/versitygw",
      ],
      { env: { CGO_ENABLED: "0" }, timeoutMs: compileTimeoutMs },
    );
  });
  return join(folder, program);
}

export interface S3Key {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

export interface S3Request {
  readonly method: string;
  /** Decoded. */
  readonly path: string;
  readonly query: string;
  readonly status: number;
}

export interface S3ServerOptions {
  readonly tls?: { readonly certPath: string; readonly keyPath: string };
  readonly region?: string;
}

export interface S3Server {
  readonly port: number;
  readonly url: string;
  readonly bucket: string;
  /** The variables of AWS programs that use it; by default with its administrator's key, and directly. */
  environment(options?: { key?: S3Key; url?: string }): Record<string, string>;
  /** A user who may do nothing. */
  addUser(): Promise<S3Key>;
  /** The requests that it has answered, in that order, over all its starts. */
  requests(): S3Request[];
  kill(): Promise<void>;
  start(): Promise<void>;
  pause(): void;
  resume(): void;
  stop(): Promise<void>;
}

/** With an empty bucket. */
export async function startS3Server({ tls, region = "us-east-1" }: S3ServerOptions = {}): Promise<S3Server> {
  const [path, dir, port] = await Promise.all([findProgram(), makeTempDir("s3"), freePort()]);
  const url = `${tls ? "https" : "http"}://127.0.0.1:${port}`;
  const bucket = "build-logs";
  const admin: S3Key = { accessKeyId: "ADMIN", secretAccessKey: crypto.randomUUID() };
  const [users, objects] = [join(dir.path, "users"), join(dir.path, "objects")];
  await mkdir(users);
  await mkdir(join(objects, bucket), { recursive: true });
  const keys = { ROOT_ACCESS_KEY_ID: admin.accessKeyId, ROOT_SECRET_ACCESS_KEY: admin.secretAccessKey };
  const starts: TestProcess[] = [];
  const server = () => starts.at(-1) as TestProcess;

  async function start(): Promise<void> {
    const files = tls ? ["--cert", tls.certPath, "--key", tls.keyPath] : [];
    const options = ["--port", `127.0.0.1:${port}`, "--region", region, "--iam-dir", users, "--keep-alive"];
    starts.push(startProcess([path, ...options, ...files, "posix", objects], { env: keys }));
    await waitFor(
      async () => server().exitCode !== null || (await fetch(url, { tls: { rejectUnauthorized: false } })),
      { timeoutMs: 60_000, what: `the S3 server at ${url} to answer` },
    );
    if (server().exitCode !== null) throw new Error(`${program} ended:\n${server().lines.join("\n")}`);
  }

  await start().catch(async (error: unknown) => {
    await dir.remove();
    throw error;
  });

  return {
    port,
    url,
    bucket,
    environment: ({ key = admin, url: usedUrl = url } = {}) => ({
      AWS_ENDPOINT_URL_S3: usedUrl,
      AWS_REGION: region,
      AWS_ACCESS_KEY_ID: key.accessKeyId,
      AWS_SECRET_ACCESS_KEY: key.secretAccessKey,
      AWS_EC2_METADATA_DISABLED: "true",
    }),
    async addUser() {
      const key: S3Key = { accessKeyId: crypto.randomUUID(), secretAccessKey: crypto.randomUUID() };
      const account = ["--access", key.accessKeyId, "--secret", key.secretAccessKey, "--role", "user"];
      const access = ["--access", admin.accessKeyId, "--secret", admin.secretAccessKey];
      await run([path, "admin", ...access, "--endpoint-url", url, "create-user", ...account]);
      return key;
    },
    requests: () => starts.flatMap(({ lines }) => lines.flatMap(requestOf)),
    kill: () => server().kill(),
    start,
    pause: () => server().pause(),
    resume: () => server().resume(),
    async stop() {
      await server().stop(2000);
      await dir.remove();
    },
  };
}

/** Such as `15:20:40 | vgw | 206 | 588.7µs | 127.0.0.1 | GET | /bucket/key | - | x-id=GetObject`. */
function requestOf(line: string): S3Request[] {
  const [, , status, , , method, path, , query = ""] = line.split(" | ").map((field) => field.trim());
  return method && path ? [{ method, path, query, status: Number(status) }] : [];
}
