/** Checks that the pushed image is the expected one, by reading all of it back. */
import { createHash } from "node:crypto";
import { run } from "../../support/machine/processes.ts";
import type { Registry, StoredManifest } from "../../support/servers/registry.ts";
import { BUILT_FILE } from "./repositories.ts";

export interface ExpectedImage {
  readonly repository: string;
  readonly version: string;
  readonly digest: string;
  /** The content of BUILT_FILE after the image's last step. */
  readonly built: string;
}

type Blob = NonNullable<StoredManifest["json"]["config"]>;

export class ImageCheck {
  /** Checked blobs of this registry; valid as long as nothing is deleted there. */
  readonly #seen = new Set<string>();

  constructor(private readonly registry: Registry) {}

  /** @throws Error when anything differs from the expected image. */
  async check(expected: ExpectedImage): Promise<void> {
    const { repository, version } = expected;
    const name = `${repository}:${version}`;
    const tagged = await this.#manifest(repository, version);
    equal(`the digest of ${name}`, tagged.digest, expected.digest);
    const image = await this.#imageOf(repository, tagged);
    const layers = image.json.layers ?? [];
    const last = layers.at(-1);
    if (!image.json.config || !last) throw new Error(`${name} has no layers`);
    for (const blob of [image.json.config, ...layers.slice(0, -1)]) {
      if (!this.#seen.has(`${repository} ${blob.digest}`)) await this.#blob(repository, blob);
    }
    const built = await fileIn(await this.#blob(repository, last), BUILT_FILE);
    equal(`/${BUILT_FILE} of ${name}`, built.trim(), expected.built);
  }

  async #manifest(repository: string, reference: string): Promise<StoredManifest> {
    const manifest = await this.registry.getManifest(repository, reference);
    if (!manifest) throw new Error(`the registry has no ${repository}:${reference}`);
    equal(`the content of ${repository}:${reference}`, sha256(manifest.body), manifest.digest);
    return manifest;
  }

  /** An index contains the image, and its attestation. */
  async #imageOf(repository: string, manifest: StoredManifest): Promise<StoredManifest> {
    const images = manifest.json.manifests?.filter(({ platform }) => platform?.os === "linux");
    if (!images) return manifest;
    const [image] = images;
    if (!image) throw new Error(`${repository}@${manifest.digest} is an index without an image`);
    return this.#manifest(repository, image.digest);
  }

  async #blob(repository: string, { digest, size }: Blob): Promise<Uint8Array> {
    const response = await this.registry.fetch(`/v2/${repository}/blobs/${digest}`);
    const bytes = await response.bytes();
    equal(`the size of ${digest}`, bytes.length, size);
    equal(`the content of a layer of ${repository}`, sha256(bytes), digest);
    this.#seen.add(`${repository} ${digest}`);
    return bytes;
  }
}

async function fileIn(layer: Uint8Array, path: string): Promise<string> {
  const { stdout } = await run(["tar", "-xzOf", "-", path], { stdin: layer });
  return stdout;
}

function sha256(content: string | Uint8Array): string {
  return `sha256:${createHash("sha256").update(content).digest("hex")}`;
}

function equal(what: string, found: string | number, expected: string | number): void {
  if (found !== expected) throw new Error(`${what} is ${found}, expected ${expected}`);
}
