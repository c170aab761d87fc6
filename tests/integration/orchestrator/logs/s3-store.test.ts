/** Logs in a real server with the protocol of S3, and what its faults and wrong settings do. */
import { afterAll, afterEach, beforeAll, expect, setSystemTime, test } from "bun:test";
import { join } from "node:path";
import { HeadObjectCommand, ListMultipartUploadsCommand } from "@aws-sdk/client-s3";
import pino from "pino";
import { type LogKey, LogStoreUnavailable } from "../../../../src/orchestrator/logs/log-store.ts";
import { createS3Client } from "../../../../src/orchestrator/logs/s3-client.ts";
import { S3LogStore, type S3Timeouts } from "../../../../src/orchestrator/logs/s3-store.ts";
import { LogUploads } from "../../../../src/orchestrator/logs/uploads.ts";
import { useAwsEnvironment } from "../../../support/machine/aws-environment.ts";
import { makeCertificates } from "../../../support/machine/certificates.ts";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { compileTimeoutMs } from "../../../support/machine/go.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { startTcpProxy, type TcpProxy } from "../../../support/servers/tcp-proxy.ts";
import { type S3Server, startS3Server } from "../../../support/servers/versitygw.ts";
import { journalOf, logStoreContract, readAll } from "./log-store-contract.ts";

const NOT_ABORTED = new AbortController().signal;
const PREFIX = "logs";
/** In memory of a reader, and in one request. */
const RANGE_BYTES = 4 * 1024 * 1024;

inFullCheck().describe("S3", () => {
  let server: S3Server;
  let proxy: TcpProxy;
  let folder: TempDir;
  let restore = () => {};
  let large: string;
  const content = journalOf(13e6);
  let jobs = 0;
  let onAnswer: (chunk: Buffer) => void = () => undefined;

  beforeAll(async () => {
    [server, folder] = await Promise.all([startS3Server(), makeTempDir("s3-store")]);
    proxy = await startTcpProxy(server, { onAnswer: (chunk) => onAnswer(chunk) });
    large = join(folder.path, "large");
    await Bun.write(large, content);
  }, compileTimeoutMs);
  afterAll(async () => {
    await proxy.stop();
    await server.stop();
    await folder.remove();
  });
  afterEach(() => {
    setSystemTime();
    restore();
  });

  const newKey = (): LogKey => ({ tenant: "acme", jobId: `job-${++jobs}`, attempt: 1 });

  /** Through the proxy, with these variables of AWS besides those of the server. */
  function open(variables: Record<string, string> = {}, timeouts?: S3Timeouts, bucket = server.bucket) {
    restore();
    const files = { AWS_CONFIG_FILE: "/nowhere", AWS_SHARED_CREDENTIALS_FILE: "/nowhere" };
    const ofServer = server.environment({ url: `http://${proxy.address}` });
    restore = useAwsEnvironment({ ...ofServer, ...files, ...variables });
    return new S3LogStore({ bucket, prefix: PREFIX }, timeouts);
  }

  const put = (store: S3LogStore, key: LogKey) => store.put(key, large, NOT_ABORTED);
  const requestsOf = ({ jobId }: LogKey) =>
    server.requests().filter(({ path }) => path.includes(`/${jobId}/`));

  async function unfinishedUploads(): Promise<number> {
    const listing = new ListMultipartUploadsCommand({ Bucket: server.bucket });
    return (await createS3Client(60_000).send(listing)).Uploads?.length ?? 0;
  }

  async function failureOf(done: Promise<unknown>): Promise<string> {
    const error: unknown = await done.catch((thrown: unknown) => thrown);
    if (!(error instanceof LogStoreUnavailable))
      throw new Error("it did not fail as it should", { cause: error });
    return error.message;
  }

  logStoreContract("a bucket", async () => {
    const own = await startS3Server();
    const restoreOwn = useAwsEnvironment(own.environment());
    const store = new S3LogStore({ bucket: own.bucket, prefix: "" });
    return {
      store,
      async stop() {
        restoreOwn();
        await own.stop();
      },
    };
  });

  test("the key names tenant, job and attempt, and the type is that of JSON lines", async () => {
    const key = newKey();
    const store = open();
    await put(store, key);
    const response = await createS3Client(60_000).send(
      new HeadObjectCommand({
        Bucket: server.bucket,
        Key: `logs/acme/${key.jobId}/1.ndjson`,
      }),
    );
    expect(response).toMatchObject({ ContentType: "application/x-ndjson", ContentLength: content.length });
  });

  test("a reader that waits causes no further requests", async () => {
    const key = newKey();
    const store = open();
    await put(store, key);
    const bytes = (await store.read(key, NOT_ABORTED))?.[Symbol.asyncIterator]();
    await bytes?.next();
    const other = newKey();
    await put(store, other);
    await readAll(store, other);
    const reads = (of: LogKey) => requestsOf(of).filter(({ method }) => method === "GET").length;
    expect(reads(other)).toBe(Math.ceil(content.length / RANGE_BYTES));
    expect(reads(key)).toBe(1);
    await bytes?.return?.();
  });

  test("an upload that the server's end interrupts fails, and leaves no parts after the next one", async () => {
    const key = newKey();
    const store = open();
    const cut = proxy.cutAt(
      { matches: (chunk) => chunk.includes("partNumber=2&"), isPassed: true },
      "answers",
    );
    const failure = failureOf(put(store, key));
    await cut.happened;
    await server.kill();
    proxy.reset();
    expect(await failure).toMatch(/^log store s3:\/\/build-logs\/logs: no connection to http:/);
    await server.start();
    proxy.heal();
    expect(await unfinishedUploads()).toBe(1);
    expect(await readAll(store, key)).toBeUndefined();
    await put(store, key);
    expect(await unfinishedUploads()).toBe(0);
    expect((await readAll(store, key))?.equals(content)).toBe(true);
  });

  test("an aborted upload leaves no parts", async () => {
    const key = newKey();
    const store = open();
    const stopping = new AbortController();
    const cut = proxy.cutAt(
      { matches: (chunk) => chunk.includes("partNumber=2&"), isPassed: true },
      "answers",
    );
    const done = store.put(key, large, stopping.signal);
    await cut.happened;
    const reason = new Error("stopping");
    stopping.abort(reason);
    proxy.heal();
    await expect(done).rejects.toBe(reason);
    expect(await unfinishedUploads()).toBe(0);
    expect(await readAll(store, key)).toBeUndefined();
  });

  test("an interrupted download continues where it was", async () => {
    const key = newKey();
    const store = open();
    await put(store, key);
    const cut = proxy.cutAt(
      { matches: (chunk) => chunk.includes(`bytes=${RANGE_BYTES}-`), isPassed: true },
      "answers",
    );
    const bytes = readAll(store, key);
    await cut.happened;
    await server.kill();
    await server.start();
    proxy.reset();
    proxy.heal();
    expect((await bytes)?.equals(content)).toBe(true);
  });

  test("a download whose connection breaks twice within a range continues there", async () => {
    const key = newKey();
    const store = open();
    await put(store, key);
    let answeredBytes = 0;
    let breaks = 0;
    onAnswer = ({ byteLength }) => {
      answeredBytes += byteLength;
      if (breaks === 2 || answeredBytes < (breaks + 1) * 1e6) return;
      breaks += 1;
      proxy.reset();
      proxy.heal();
    };
    expect((await readAll(store, key))?.equals(content)).toBe(true);
    onAnswer = () => undefined;
    expect(breaks).toBe(2);
  });

  test("a download fails when the server does not return", async () => {
    const key = newKey();
    const store = open();
    await put(store, key);
    const cut = proxy.cutAt(
      { matches: (chunk) => chunk.includes(`bytes=${RANGE_BYTES}-`), isPassed: true },
      "answers",
    );
    const failure = failureOf(readAll(store, key));
    await cut.happened;
    proxy.reset();
    expect(await failure).toMatch(/^log store s3:\/\/build-logs\/logs: no connection to http:/);
    proxy.heal();
  });

  test("a log that is replaced while it is read is not mixed", async () => {
    const key = newKey();
    const store = open();
    await put(store, key);
    const bytes = (await store.read(key, NOT_ABORTED)) ?? [];
    const other = join(folder.path, "other");
    await Bun.write(other, journalOf(12e6));
    await store.put(key, other, NOT_ABORTED);
    const read = async () => {
      for await (const _ of bytes);
    };
    expect(await failureOf(read())).toContain("the log was replaced or removed while it was read");
  });

  test("a server that does not answer", async () => {
    const key = newKey();
    const store = open({}, { partMs: 300, answerMs: 300 });
    const small = join(folder.path, "small");
    await Bun.write(small, "one\n");
    server.pause();
    for (const request of [
      () => store.check(NOT_ABORTED),
      () => store.put(key, small, NOT_ABORTED),
      () => store.read(key, NOT_ABORTED),
    ])
      expect(await failureOf(request())).toContain("the server does not answer in time");
    server.resume();
    await open().put(key, small, NOT_ABORTED);
  });

  test("a wrong clock", async () => {
    const key = newKey();
    const store = open();
    setSystemTime(Date.now() + 3_600_000);
    await put(store, key);
    expect(
      server.requests().some(({ path, status }) => path.startsWith("/build-logs") && status === 403),
    ).toBe(true);
    expect((await readAll(store, key))?.equals(content)).toBe(true);
  });

  const denied = async () => {
    const { accessKeyId, secretAccessKey } = await server.addUser();
    return open({ AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey });
  };

  test.each<[string, () => S3LogStore | Promise<S3LogStore>, RegExp]>([
    [
      "an unknown key",
      () => open({ AWS_ACCESS_KEY_ID: "AKIAHIDDEN" }),
      /refuses the credentials \(InvalidAccessKeyId\);/,
    ],
    [
      "a wrong key",
      () => open({ AWS_SECRET_ACCESS_KEY: "hidden" }),
      /refuses the credentials \(SignatureDoesNotMatch\);/,
    ],
    ["no key", () => open({ AWS_ACCESS_KEY_ID: "" }), /no AWS credentials from .*; set AWS_PROFILE/],
    ["no permissions", denied, /access denied; allow s3:\w+.* for the bucket build-logs and its objects$/],
    [
      "a missing bucket",
      () => open({}, undefined, "missing"),
      /the bucket missing does not exist; create it/,
    ],
    ["no region", () => open({ AWS_REGION: "" }), /no AWS region is set; set AWS_REGION /],
    [
      "another region",
      () => open({ AWS_REGION: "eu-west-1" }),
      /is in the region us-east-1; set AWS_REGION=us-east-1$/,
    ],
    [
      "a server without TLS",
      () => open({ AWS_ENDPOINT_URL_S3: `https://${proxy.address}` }),
      /does not speak TLS; /,
    ],
    [
      "no server",
      () => open({ AWS_ENDPOINT_URL_S3: "http://127.0.0.1:1" }),
      /no connection to http:\/\/127.0.0.1:1 \(/,
    ],
    [
      "an invalid endpoint",
      () => open({ AWS_ENDPOINT_URL_S3: "s3.example.com" }),
      /AWS_ENDPOINT_URL_S3 .* is not a URL; /,
    ],
  ])("%s is named by check, upload and download", async (_, use, message) => {
    const store = await use();
    const requests = [
      () => store.check(NOT_ABORTED),
      () => put(store, newKey()),
      () => store.read(newKey(), NOT_ABORTED),
    ];
    for (const request of requests) {
      const failure = await failureOf(request());
      expect(failure).toMatch(message);
      expect(failure).not.toMatch(/hidden/i);
    }
  });

  test("a certificate of an unknown authority is named", async () => {
    const { server: tls } = await makeCertificates(folder.path);
    const secure = await startS3Server({ tls });
    const failure = failureOf(open({ AWS_ENDPOINT_URL_S3: secure.url }).check(NOT_ABORTED));
    expect(await failure).toMatch(/the certificate of https:.* is not trusted .*; .* NODE_EXTRA_CA_CERTS /);
    await secure.stop();
  });

  test("uploads that fail while the server is down are made when it is up again", async () => {
    const key = newKey();
    const lines: string[] = [];
    const uploaded = Promise.withResolvers<LogKey>();
    const uploads = new LogUploads({
      store: open(),
      folder: {
        async *pending() {
          yield { key, path: large };
        },
        uploaded: async (done) => uploaded.resolve(done),
      },
      logger: pino({}, { write: (line: string) => void lines.push(JSON.parse(line).msg) }),
      retryDelay: { initialMs: 10, maxMs: 100 },
      onUploaded: async () => undefined,
    });
    await server.kill();
    uploads.start();
    await waitFor(() => lines.length > 0, { timeoutMs: 30_000, what: "an error to be logged" });
    await server.start();
    expect(await uploaded.promise).toEqual(key);
    expect((await readAll(open(), key))?.equals(content)).toBe(true);
    const again = () => lines.includes("log uploads work again");
    await waitFor(again, { timeoutMs: 30_000, what: "the recovery to be logged" });
    await uploads.stop();
    expect(lines.at(0)).toBe("log uploads failing");
  });
});
