/** The bench's check of the pushed image: it must detect an image that differs from the expected one. */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { createHash, randomUUID } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type ExpectedImage, ImageCheck } from "../../../bench/build/image-check.ts";
import { run } from "../../../support/machine/processes.ts";
import { makeTempDir } from "../../../support/machine/temp-dir.ts";
import { type Registry, startRegistry } from "../../../support/servers/registry.ts";

const IMAGE = "application/vnd.oci.image.manifest.v1+json";
const INDEX = "application/vnd.oci.image.index.v1+json";

let registry: Registry;
let expected: ExpectedImage;

beforeAll(async () => {
  registry = await startRegistry();
});

afterAll(() => registry?.stop());

beforeEach(async () => {
  const repository = `checked-${randomUUID().slice(0, 8)}`;
  const digest = await pushImage(repository, "v1", "the sum of the sources");
  expected = { repository, version: "v1", digest, built: "the sum of the sources" };
});

function digestOf(content: string | Uint8Array): string {
  return `sha256:${createHash("sha256").update(content).digest("hex")}`;
}

async function layerWith(built: string): Promise<Uint8Array> {
  const dir = await makeTempDir("layer");
  try {
    await mkdir(join(dir.path, "tree"));
    await writeFile(join(dir.path, "tree/built"), `${built}\n`);
    await run(["tar", "-C", join(dir.path, "tree"), "-czf", join(dir.path, "layer.tgz"), "built"]);
    return await Bun.file(join(dir.path, "layer.tgz")).bytes();
  } finally {
    await dir.remove();
  }
}

async function pushBlob(repository: string, content: string | Uint8Array) {
  const started = await registry.fetch(`/v2/${repository}/blobs/uploads/`, { method: "POST" });
  const to = new URL(started.headers.get("location") ?? "", registry.url);
  to.searchParams.set("digest", digestOf(content));
  const body = content as string | Uint8Array<ArrayBuffer>;
  const put = await registry.fetch(`${to.pathname}${to.search}`, { method: "PUT", body });
  expect(put.status).toBe(201);
  return {
    digest: digestOf(content),
    size: Buffer.from(content).length,
    mediaType: "application/octet-stream",
  };
}

async function pushManifest(repository: string, reference: string, mediaType: string, content: object) {
  const body = JSON.stringify({ schemaVersion: 2, mediaType, ...content });
  await registry.putManifest(repository, reference, { digest: "", mediaType, body, json: {} });
  return { digest: digestOf(body), size: body.length, mediaType };
}

async function pushImage(repository: string, version: string, built: string): Promise<string> {
  const config = await pushBlob(repository, "{}");
  const layers = [
    await pushBlob(repository, await layerWith("a layer below")),
    await pushBlob(repository, await layerWith(built)),
  ];
  return (await pushManifest(repository, version, IMAGE, { config, layers })).digest;
}

const check = (changes: Partial<ExpectedImage> = {}) =>
  new ImageCheck(registry).check({ ...expected, ...changes });

function pathOfBlob(digest: string): string {
  const hex = digest.replace("sha256:", "");
  return join(registry.storageDir, "docker/registry/v2/blobs/sha256", hex.slice(0, 2), hex, "data");
}

test("bench's image check accepts the expected image, also on a second check", async () => {
  const checks = new ImageCheck(registry);
  await checks.check(expected);
  await checks.check(expected);
});

test("bench's image check finds an image in an index, beside its attestation", async () => {
  const { repository, digest } = expected;
  const image = { digest, mediaType: IMAGE, size: 1, platform: { os: "linux", architecture: "amd64" } };
  const attestation = { ...image, platform: { os: "unknown", architecture: "unknown" } };
  const index = await pushManifest(repository, "v2", INDEX, { manifests: [attestation, image] });
  await check({ version: "v2", digest: index.digest });
});

test("bench's image check rejects a missing tag", async () => {
  await expect(check({ version: "v9" })).rejects.toThrow("the registry has no");
});

test("bench's image check rejects a digest that differs from the reported one", async () => {
  await expect(check({ digest: digestOf("something else") })).rejects.toThrow("the digest of");
});

test("bench's image check rejects an image of other sources", async () => {
  await expect(check({ built: "the sum of other sources" })).rejects.toThrow("/built of");
});

test("bench's image check rejects a damaged layer", async () => {
  const manifest = await registry.getManifest(expected.repository, "v1");
  const layer = manifest?.json.layers?.[0];
  if (!layer) throw new Error("the image has no layers");
  const path = pathOfBlob(layer.digest);
  const content = await readFile(path);
  await writeFile(path, "x".repeat(layer.size));
  try {
    await expect(check()).rejects.toThrow("the content of a layer");
  } finally {
    await writeFile(path, content);
  }
});
