/** The parts of the OCI distribution API that the pipeline needs; ECR serves them too. */
import { createHash } from "node:crypto";
import type { Step } from "../../shared/job.ts";
import { StepFailure, type Throttling } from "../job/failure.ts";
import type { RegistryLogin } from "./login.ts";
import { RegistryTransport } from "./transport.ts";

export interface Manifest {
  readonly digest: string;
  readonly mediaType: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

interface Descriptor {
  readonly digest: string;
  readonly platform?: { readonly os?: string; readonly architecture?: string };
}

/** The fields of an image manifest or an index that are used here. */
interface ManifestBody {
  readonly mediaType?: string;
  readonly config?: Descriptor;
  readonly manifests?: readonly Descriptor[];
}

const MANIFEST_TYPES = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");

const DEFAULT_TIMEOUT_MS = 10_000;

/** An image's configuration may contain anything, whatever its format requires. */
function textsOf(labels: Readonly<Record<string, unknown>>): Record<string, string> {
  const entries = Object.entries(labels);
  return Object.fromEntries(
    entries.filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}

export class RegistryClient {
  readonly #login: RegistryLogin;
  readonly #transport: RegistryTransport;
  readonly #timeoutMs: number;

  /** `step` is the step that failures are reported for. */
  constructor(login: RegistryLogin, step: Step, timeoutMs = DEFAULT_TIMEOUT_MS) {
    this.#login = login;
    this.#transport = new RegistryTransport(login, step);
    this.#timeoutMs = timeoutMs;
  }

  during(step: Step): RegistryClient {
    return new RegistryClient(this.#login, step, this.#timeoutMs);
  }

  /** By tag or digest; undefined when the manifest or the repository does not exist. */
  async getManifest(
    repository: string,
    reference: string,
    signal: AbortSignal,
  ): Promise<Manifest | undefined> {
    const path = `/v2/${repository}/manifests/${reference}`;
    const headers = { Accept: MANIFEST_TYPES };
    const request = { method: "GET", path, headers, signal: this.#bounded(signal) } as const;
    const response = await this.#transport.send(request);
    if (response.status === 404) return undefined;
    await this.#transport.expect(response, 200);
    const bytes = await this.#transport.body(response);
    const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    const body = this.#transport.parse<ManifestBody>(bytes);
    const { mediaType = response.headers.get("content-type") ?? "" } = body;
    return { digest, mediaType, bytes };
  }

  /**
   * The labels of an image; of an index, those of its first image that can run (attestations cannot). Undefined when the
   * registry does not have the part that contains them.
   */
  async getImageLabels(
    repository: string,
    manifest: Manifest,
    signal: AbortSignal,
  ): Promise<Record<string, string> | undefined> {
    const body = this.#transport.parse<ManifestBody>(manifest.bytes);
    const image = body.manifests?.find(({ platform }) => platform?.os !== "unknown");
    if (image) {
      const inner = await this.getManifest(repository, image.digest, signal);
      return inner && this.getImageLabels(repository, inner, signal);
    }
    if (!body.config) return {};
    const path = `/v2/${repository}/blobs/${body.config.digest}`;
    const response = await this.#transport.send({ method: "GET", path, signal: this.#bounded(signal) });
    if (response.status === 404) return undefined;
    await this.#transport.expect(response, 200);
    const config = this.#transport.parse<{ config?: { Labels?: Record<string, unknown> | null } } | null>(
      await this.#transport.body(response),
    );
    return textsOf(config?.config?.Labels ?? {});
  }

  /** Throws TAG_IMMUTABLE, ECR_AUTH, ECR_REPO_NOT_FOUND or PUSH_FAILED; after a PUSH_FAILED the tag may exist. */
  async putManifest(repository: string, tag: string, manifest: Manifest, timeoutMs: number): Promise<void> {
    const response = await this.#transport.send({
      method: "PUT",
      path: `/v2/${repository}/manifests/${tag}`,
      headers: { "Content-Type": manifest.mediaType },
      body: manifest.bytes,
      signal: AbortSignal.timeout(timeoutMs),
    });
    await this.#transport.expect(response, 201);
  }

  /** False when the registry has not deleted the tag: not every registry deletes by tag. */
  async deleteTag(repository: string, tag: string, signal: AbortSignal): Promise<boolean> {
    const path = `/v2/${repository}/manifests/${tag}`;
    const response = await this.#transport.send({ method: "DELETE", path, signal: this.#bounded(signal) });
    await response.body?.cancel();
    return response.status === 202;
  }

  /** Whether the registry limits requests to the repository now. Never rejects. */
  async throttling(repository: string, reference: string, signal: AbortSignal): Promise<Throttling> {
    try {
      await this.getManifest(repository, reference, signal);
      return {};
    } catch (error) {
      return (error instanceof StepFailure && error.throttled) || {};
    }
  }

  #bounded(signal: AbortSignal): AbortSignal {
    return AbortSignal.any([signal, AbortSignal.timeout(this.#timeoutMs)]);
  }
}
