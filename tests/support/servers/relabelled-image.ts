import { createHash } from "node:crypto";
import type { Registry } from "./registry.ts";

export interface RelabelledImage {
  readonly repository: string;
  /** Tag or digest of the image whose layers the new one has. */
  readonly reference: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly tag: string;
}

/** Pushes an image of another author with these labels, as a client with access to the registry can. Returns its digest. */
export async function pushRelabelled(
  registry: Registry,
  { repository, reference, labels, tag }: RelabelledImage,
): Promise<string> {
  const image = await registry.getManifest(repository, reference);
  if (!image?.json.config) throw new Error(`${repository}:${reference} is not an image`);
  const config = await registry.getImageConfig(repository, reference);
  const changed = { ...config, author: "not Blacktree", config: { ...config.config, Labels: labels } };
  const relabelled = JSON.stringify(changed);
  const digest = await upload(registry, repository, relabelled);
  const size = Buffer.byteLength(relabelled);
  const body = JSON.stringify({ ...image.json, config: { ...image.json.config, digest, size } });
  await registry.putManifest(repository, tag, { ...image, body });
  return digestOf(body);
}

async function upload({ fetch, url }: Registry, repository: string, blob: string): Promise<string> {
  const digest = digestOf(blob);
  const begun = await fetch(`/v2/${repository}/blobs/uploads/`, { method: "POST" });
  const { pathname, searchParams } = new URL(begun.headers.get("location") ?? "", url);
  searchParams.set("digest", digest);
  const headers = { "Content-Type": "application/octet-stream" };
  const ended = await fetch(`${pathname}?${searchParams}`, { method: "PUT", headers, body: blob });
  if (ended.status !== 201) throw new Error(`the registry answered ${ended.status}: ${await ended.text()}`);
  return digest;
}

function digestOf(text: string): string {
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}
