import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { type Registry, startRegistry } from "../../../support/servers/registry.ts";
import { type RegistryProxy, startRegistryProxy } from "../../../support/servers/registry-proxy.ts";

let registry: Registry;
let proxy: RegistryProxy;

const manifestType = "application/vnd.oci.image.manifest.v1+json";

beforeAll(async () => {
  registry = await startRegistry();
  proxy = await startRegistryProxy(registry);
});
afterAll(async () => {
  await proxy.stop();
  await registry.stop();
});

function send(method: string, path: string, init: RequestInit = {}, login = registry): Promise<Response> {
  const authorization = `Basic ${btoa(`${login.username}:${login.password}`)}`;
  const headers = { Authorization: authorization, ...(init.headers as Record<string, string>) };
  return fetch(new URL(path, proxy.url), { ...init, method, headers });
}

function digestOf(content: string | Uint8Array): string {
  return `sha256:${new Bun.CryptoHasher("sha256").update(content).digest("hex")}`;
}

async function pushBlob(repository: string, content: Uint8Array): Promise<string> {
  const started = await send("POST", `/v2/${repository}/blobs/uploads/`);
  const patched = await send("PATCH", started.headers.get("location") ?? "", { body: content });
  const digest = digestOf(content);
  const done = new URL(patched.headers.get("location") ?? "");
  done.searchParams.set("digest", digest);
  const { status } = await send("PUT", done.href);
  expect(status).toBe(201);
  return digest;
}

async function pushImage(repository: string, tag: string, content: string): Promise<Response> {
  const config = Buffer.from(JSON.stringify({ os: "linux", architecture: "amd64", content }));
  const digest = await pushBlob(repository, config);
  const body = JSON.stringify({
    schemaVersion: 2,
    mediaType: manifestType,
    config: { mediaType: "application/vnd.oci.image.config.v1+json", digest, size: config.length },
    layers: [],
  });
  return send("PUT", `/v2/${repository}/manifests/${tag}`, {
    headers: { "Content-Type": manifestType },
    body,
  });
}

test("the registry: its log has every completed request, also of earlier starts", async () => {
  const puts = () =>
    registry
      .completedRequests()
      .filter(({ method, path }) => method === "PUT" && path === "/v2/logged/manifests/v1")
      .map(({ status }) => status);
  await pushImage("logged", "v1", "once");
  await registry.kill();
  await registry.start();
  await pushImage("logged", "v1", "twice");
  await waitFor(() => puts().length === 2, { timeoutMs: 60_000, what: "both requests in the log" });
  expect(puts()).toEqual([201, 201]);
});

test("the registry refuses access without its password", async () => {
  const request = (password: string) =>
    fetch(`${registry.url}/v2/`, { headers: { Authorization: `Basic ${btoa(`AWS:${password}`)}` } });
  expect((await fetch(`${registry.url}/v2/`)).status).toBe(401);
  expect((await request("wrong")).status).toBe(401);
  expect((await request(registry.password)).status).toBe(200);
});

describe("through the proxy", () => {
  afterEach(() => {
    const none = { login: undefined, repositories: undefined, immutableRepositories: undefined };
    Object.assign(proxy.faults, { ...none, refusesSameManifest: undefined });
    proxy.clearFailures();
  });

  test("an image is pushed, and inspected", async () => {
    expect((await pushImage("looked/at", "v1", "one")).status).toBe(201);
    expect(await registry.listTags("looked/at")).toEqual(["v1"]);
    const manifest = await registry.getManifest("looked/at", "v1");
    expect(manifest?.digest).toBe(digestOf(manifest?.body ?? ""));
    expect(await registry.getImageConfig("looked/at", "v1")).toMatchObject({ architecture: "amd64" });
    expect(await registry.getManifest("looked/at", "v2")).toBeUndefined();
    expect(await registry.listTags("nothing")).toEqual([]);
  });

  test("a large blob is uploaded, and its HEAD reports its size", async () => {
    const digest = await pushBlob("team/app", new Uint8Array(32 * 1024 * 1024).fill(7));
    const head = await send("HEAD", `/v2/team/app/blobs/${digest}`);
    expect(head.status).toBe(200);
    expect(head.headers.get("content-length")).toBe(String(32 * 1024 * 1024));
    const part = await send("GET", `/v2/team/app/blobs/${digest}`, { headers: { Range: "bytes=0-9" } });
    expect(part.status).toBe(206);
    expect((await part.bytes()).length).toBe(10);
  });

  test("puts of a tag are recorded", async () => {
    await pushImage("team/app", "recorded", "one");
    expect(proxy.tagPuts("team/app", "recorded")).toMatchObject([{ user: "AWS", status: 201 }]);
    expect(proxy.tagPuts("team/app", "other")).toEqual([]);
  });

  test("a login is valid, expired or unknown as the test sets it", async () => {
    expect((await fetch(`${proxy.url}/v2/`)).status).toBe(401);
    proxy.faults.login = (_, password) => (password === "old" ? "expired" : "valid");
    const old = await send("GET", "/v2/", {}, { ...registry, password: "old" });
    expect(old.status).toBe(403);
    expect(await old.text()).toContain("Your authorization token has expired");
    expect((await send("GET", "/v2/", {}, { ...registry, password: "new" })).status).toBe(200);
  });

  test("a missing repository is unknown, and a push does not create it", async () => {
    proxy.faults.repositories = new Set(["team/app"]);
    const upload = await send("POST", "/v2/team/none/blobs/uploads/");
    expect(upload.status).toBe(404);
    expect(await upload.json()).toMatchObject({ errors: [{ code: "NAME_UNKNOWN" }] });
  });

  test("an immutable tag cannot be moved, and a new one can be put", async () => {
    proxy.faults.immutableRepositories = new Set(["fixed"]);
    expect((await pushImage("fixed", "v1", "one")).status).toBe(201);
    expect((await pushImage("fixed", "v1", "one")).status).toBe(201);
    const moved = await pushImage("fixed", "v1", "two");
    expect(moved.status).toBe(400);
    expect(await moved.json()).toMatchObject({ errors: [{ code: "TAG_INVALID" }] });
    expect((await pushImage("fixed", "v2", "two")).status).toBe(201);
    proxy.faults.refusesSameManifest = true;
    expect((await pushImage("fixed", "v1", "one")).status).toBe(400);
  });

  test("requests fail as often as configured, where configured", async () => {
    await pushImage("team/app", "failing", "one");
    proxy.failNext({ count: 2, status: 503, method: "GET", path: /tags/ });
    expect((await send("GET", "/v2/")).status).toBe(200);
    expect((await send("GET", "/v2/team/app/tags/list")).status).toBe(503);
    expect((await send("GET", "/v2/team/app/tags/list")).status).toBe(503);
    expect((await send("GET", "/v2/team/app/tags/list")).status).toBe(200);
  });

  test("a request can be held", async () => {
    const held = proxy.hold({ method: "PUT", path: /manifests\/held$/ });
    const pushing = pushImage("team/app", "held", "one");
    await held.arrived;
    expect(await registry.listTags("team/app")).not.toContain("held");
    held.release();
    expect((await pushing).status).toBe(201);
    expect(await registry.listTags("team/app")).toContain("held");
  });

  test("requests fail with 502 while the registry is down", async () => {
    await pushImage("team/app", "stays", "one");
    await registry.kill();
    expect((await send("GET", "/v2/")).status).toBe(502);
    await registry.start();
    expect((await send("GET", "/v2/")).status).toBe(200);
    expect(await registry.listTags("team/app")).toContain("stays");
  });
});
