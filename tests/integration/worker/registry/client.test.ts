import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { RegistryAccess } from "../../../../src/worker/registry/access.ts";
import { RegistryClient } from "../../../../src/worker/registry/client.ts";
import { RegistryLogin } from "../../../../src/worker/registry/login.ts";
import { makeCertificates } from "../../../support/machine/certificates.ts";
import { freePort } from "../../../support/machine/free-port.ts";
import { run } from "../../../support/machine/processes.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { startRegistry } from "../../../support/servers/registry.ts";

const never = new AbortController().signal;
const credentials = { username: "AWS", password: "password" };

function clientOf(origin: string, timeoutMs?: number): RegistryClient {
  const access: RegistryAccess = {
    origin,
    host: new URL(origin).host,
    credentials,
    tagMutability: "unknown",
  };
  return new RegistryClient(new RegistryLogin(access), "push", timeoutMs);
}

/** Credentials of user AWS that can be renewed once, to another password. */
function accessWith(origin: string, password: string, renewed: string): RegistryAccess {
  return {
    origin,
    host: new URL(origin).host,
    tagMutability: "unknown",
    credentials: { username: "AWS", password },
    renew: async () => ({ credentials: { username: "AWS", password: renewed } }),
  };
}

/** A registry that answers as the test decides. */
async function serve(answer: (request: Request) => Response | Promise<Response>) {
  const server = Bun.serve({ hostname: "127.0.0.1", port: await freePort(), fetch: answer });
  return { origin: `http://127.0.0.1:${server.port}`, [Symbol.asyncDispose]: () => server.stop(true) };
}

const failureOf = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error) => error.failure,
  );

describe("RegistryClient", () => {
  test("follows a blob's redirect to another host without the credentials", async () => {
    const seen: (string | null)[] = [];
    await using storage = await serve((request) => {
      seen.push(request.headers.get("authorization"));
      return Response.json({ config: { Labels: { a: "b" } } });
    });
    await using registry = await serve((request) => {
      seen.push(request.headers.get("authorization"));
      return Response.redirect(`${storage.origin}/blob`, 307);
    });
    const bytes = new TextEncoder().encode(JSON.stringify({ config: { digest: "sha256:1" } }));
    const labels = await clientOf(registry.origin).getImageLabels(
      "r",
      { digest: "sha256:0", mediaType: "x", bytes },
      never,
    );
    expect(labels).toEqual({ a: "b" });
    expect(seen).toEqual([`Basic ${btoa("AWS:password")}`, null]);
  });

  test("a response that is too long is not read to its end", async () => {
    const chunk = new Uint8Array(1024 * 1024);
    let sent = 0;
    await using registry = await serve(() => {
      const pull = (controller: ReadableStreamDefaultController<Uint8Array>) => {
        sent += 1;
        if (sent < 100) controller.enqueue(chunk);
        else controller.close();
      };
      return new Response(new ReadableStream({ pull }));
    });
    const failure = await failureOf(clientOf(registry.origin).getManifest("r", "v1", never));
    expect(failure.message).toContain("sent more than 8388608 bytes");
    expect(sent).toBeLessThan(100);
  });

  test("deletes by tag if the registry supports it", async () => {
    await using willing = await serve(
      ({ method }) => new Response(null, { status: method === "DELETE" ? 202 : 500 }),
    );
    await using unwilling = await serve(() => new Response(null, { status: 405 }));
    expect(await clientOf(willing.origin).deleteTag("r", "t", never)).toBe(true);
    expect(await clientOf(unwilling.origin).deleteTag("r", "t", never)).toBe(false);
  });

  test.each([
    [401, "", "ECR_AUTH", false],
    [403, "DENIED", "ECR_AUTH", false],
    [404, "NAME_UNKNOWN", "ECR_REPO_NOT_FOUND", false],
    [400, "TAG_INVALID", "TAG_IMMUTABLE", false],
    [429, "TOOMANYREQUESTS", "PUSH_FAILED", true],
    [503, "UNAVAILABLE", "PUSH_FAILED", true],
    [400, "MANIFEST_INVALID", "PUSH_FAILED", false],
  ] as const)("a put with response %d %s fails with %s", async (status, code, failure, retryable) => {
    await using registry = await serve(() =>
      Response.json({ errors: [{ code, message: "why" }] }, { status }),
    );
    const manifest = { digest: "sha256:0", mediaType: "x", bytes: new Uint8Array() };
    expect(await failureOf(clientOf(registry.origin).putManifest("r", "t", manifest, 30_000))).toMatchObject({
      code: failure,
      step: "push",
      retryable,
    });
  });

  test("times out while it waits for a response, and for the rest of one", async () => {
    await using silent = await serve(() => new Promise<Response>(() => {}));
    await using halting = await serve(
      () =>
        new Response(new ReadableStream({ start: (controller) => controller.enqueue(new Uint8Array(3)) })),
    );
    for (const { origin } of [silent, halting]) {
      expect(await failureOf(clientOf(origin, 100).getManifest("r", "t", never))).toMatchObject({
        code: "PUSH_FAILED",
        retryable: true,
      });
    }
  });

  test("renews expired credentials once, without an error", async () => {
    const seen: (string | null)[] = [];
    await using registry = await serve((request) => {
      seen.push(request.headers.get("authorization"));
      if (request.headers.get("authorization") === `Basic ${btoa("AWS:second")}`)
        return new Response(null, { status: 201 });
      const message = "Your authorization token has expired. Reauthenticate and try again.";
      return Response.json({ errors: [{ code: "DENIED", message }] }, { status: 403 });
    });
    const renewedTo: (string | undefined)[] = [];
    const login = new RegistryLogin(accessWith(registry.origin, "first", "second"), {
      onRenewed: async ({ credentials }) => void renewedTo.push(credentials?.password),
      log: () => undefined,
    });
    const client = new RegistryClient(login, "tag");
    const manifest = { digest: "sha256:0", mediaType: "x", bytes: new Uint8Array([1]) };
    await client.putManifest("r", "t", manifest, 30_000);
    await client.during("push").putManifest("r", "t", manifest, 30_000);
    expect(seen).toEqual(["first", "second", "second"].map((password) => `Basic ${btoa(`AWS:${password}`)}`));
    expect(renewedTo).toEqual(["second"]);
  });

  test("fails when new credentials are refused too; a missing permission does not renew credentials", async () => {
    for (const [status, requests] of [
      [401, 2],
      [403, 1],
    ] as const) {
      let seen = 0;
      await using registry = await serve(() => {
        seen++;
        return Response.json({ errors: [{ code: "DENIED", message: "not allowed" }] }, { status });
      });
      const client = new RegistryClient(
        new RegistryLogin(accessWith(registry.origin, "first", "second")),
        "push",
      );
      expect(await failureOf(client.getManifest("r", "t", never))).toMatchObject({ code: "ECR_AUTH" });
      expect(seen).toBe(requests);
    }
  });

  test("a put times out while its credentials are renewed", async () => {
    await using registry = await serve(() => new Response(null, { status: 401 }));
    const access = accessWith(registry.origin, "first", "second");
    const client = new RegistryClient(
      new RegistryLogin({ ...access, renew: () => new Promise(() => {}) }),
      "tag",
    );
    const manifest = { digest: "sha256:0", mediaType: "x", bytes: new Uint8Array() };
    expect(await failureOf(client.putManifest("r", "t", manifest, 100))).toMatchObject({
      code: "PUSH_FAILED",
      retryable: true,
    });
  });

  describe("a registry with a token server", () => {
    /** The token server accepts only this password. */
    async function serveWithTokens(password: string, status = 200) {
      const received: string[] = [];
      const registry = await serve((request) => {
        const { pathname, search, origin } = new URL(request.url);
        const authorization = request.headers.get("authorization");
        received.push(`${authorization?.split(" ")[0]} ${pathname}${search}`);
        if (pathname === "/token") {
          if (authorization !== `Basic ${btoa(`AWS:${password}`)}`)
            return new Response(null, { status: 401 });
          return Response.json({ token: "a-token" }, { status });
        }
        if (authorization === "Bearer a-token") return new Response(null, { status: 201 });
        const challenge = `Bearer realm="${origin}/token",service="registry.example",scope="repository:r:pull,push"`;
        return new Response(null, { status: 401, headers: { "WWW-Authenticate": challenge } });
      });
      return { ...registry, received };
    }
    const manifest = { digest: "sha256:0", mediaType: "x", bytes: new Uint8Array([1]) };

    test("gets a token that its token server issues for the password", async () => {
      await using registry = await serveWithTokens("password");
      await clientOf(registry.origin).putManifest("r", "t", manifest, 30_000);
      expect(registry.received).toEqual([
        "Basic /v2/r/manifests/t",
        "Basic /token?service=registry.example&scope=repository%3Ar%3Apull%2Cpush",
        "Bearer /v2/r/manifests/t",
      ]);
    });

    test("a refused password is ECR_AUTH; a failure of the token server is retryable", async () => {
      await using refusing = await serveWithTokens("another");
      await using failing = await serveWithTokens("password", 503);
      const put = ({ origin }: { origin: string }) =>
        failureOf(clientOf(origin).putManifest("r", "t", manifest, 30_000));
      expect(await put(refusing)).toMatchObject({ code: "ECR_AUTH", retryable: false });
      expect(await put(failing)).toMatchObject({ code: "PUSH_FAILED", retryable: true });
    });
  });

  test("an unreachable registry is retryable", async () => {
    const origin = `http://127.0.0.1:${await freePort()}`;
    expect(await failureOf(clientOf(origin).getManifest("r", "t", never))).toMatchObject({
      code: "PUSH_FAILED",
      retryable: true,
    });
  });
});

describe("a registry with a certificate of a private authority", () => {
  let dir: TempDir;

  beforeAll(async () => {
    dir = await makeTempDir("tls");
  });
  afterAll(() => dir.remove());

  test("is trusted only with NODE_EXTRA_CA_CERTS", async () => {
    const { caPath, server } = await makeCertificates(dir.path);
    const registry = await startRegistry({ tls: server });
    try {
      const { username, password, url, host } = registry;
      const access = { origin: url, host, credentials: { username, password }, tagMutability: "unknown" };
      const source = (name: string) =>
        JSON.stringify(new URL(`../../../../src/worker/registry/${name}.ts`, import.meta.url).pathname);
      const script = join(dir.path, "connect.ts");
      await Bun.write(
        script,
        `import { RegistryClient } from ${source("client")};
         import { RegistryLogin } from ${source("login")};
         const client = new RegistryClient(new RegistryLogin(${JSON.stringify(access)}), "push");
         const none = await client.getManifest("no/thing", "v1", new AbortController().signal);
         process.stdout.write(none === undefined ? "received" : "found");`,
      );
      const connect = (ca: string | undefined) =>
        run([process.execPath, script], { env: { NODE_EXTRA_CA_CERTS: ca }, mayFail: true });
      expect((await connect(caPath)).stdout).toBe("received");
      expect((await connect(undefined)).stderr).toContain("certificate");
    } finally {
      await registry.stop();
    }
  });
});
