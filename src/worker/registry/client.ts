import { createHash } from "node:crypto";
import { orAbort } from "../../shared/abort.ts";
import type { Step } from "../../shared/job.ts";
import { StepFailure } from "../job/failure.ts";
import type { RegistryAccess, RegistryCredentials } from "./access.ts";
import { tokenUrlOf } from "./bearer.ts";
import type { RegistryLogin } from "./login.ts";
import { registryRefusal } from "./refusal.ts";

/** The parts of the OCI distribution API that the pipeline needs; ECR serves them too. */

export interface Manifest {
  readonly digest: string;
  readonly mediaType: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

interface Descriptor {
  readonly digest: string;
  readonly platform?: { readonly os?: string; readonly architecture?: string };
}

/** What is read of an image manifest or an index. */
interface ManifestBody {
  readonly mediaType?: string;
  readonly config?: Descriptor;
  readonly manifests?: readonly Descriptor[];
}

interface RegistryRequest {
  readonly method: "GET" | "HEAD" | "PUT" | "DELETE";
  readonly path: string;
  readonly headers?: Record<string, string>;
  readonly body?: Uint8Array<ArrayBuffer>;
  readonly signal: AbortSignal;
}

const MANIFEST_TYPES = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");

const MOST_REDIRECTS = 3;
/** Manifests and image configurations are small; anything longer is not one. */
const LONGEST_BODY_BYTES = 8 * 1024 * 1024;
const DEFAULT_TIMEOUT_MS = 10_000;

export class RegistryClient {
  readonly #login: RegistryLogin;
  readonly #step: Step;
  readonly #timeoutMs: number;

  /** `step` is the one that a failure is laid to. */
  constructor(login: RegistryLogin, step: Step, timeoutMs = DEFAULT_TIMEOUT_MS) {
    this.#login = login;
    this.#step = step;
    this.#timeoutMs = timeoutMs;
  }

  during(step: Step): RegistryClient {
    return new RegistryClient(this.#login, step, this.#timeoutMs);
  }

  /** By tag or digest; undefined when there is none, or no such repository. */
  async getManifest(
    repository: string,
    reference: string,
    signal: AbortSignal,
  ): Promise<Manifest | undefined> {
    const path = `/v2/${repository}/manifests/${reference}`;
    const headers = { Accept: MANIFEST_TYPES };
    const response = await this.#send({ method: "GET", path, headers, signal: this.#bounded(signal) });
    if (response.status === 404) return undefined;
    await this.#expect(response, 200);
    const bytes = await this.#body(response);
    const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    const { mediaType = response.headers.get("content-type") ?? "" } = this.#parse<ManifestBody>(bytes);
    return { digest, mediaType, bytes };
  }

  /** The labels of an image; of an index, those of its first image that can run (attestations cannot). */
  async getImageLabels(
    repository: string,
    manifest: Manifest,
    signal: AbortSignal,
  ): Promise<Record<string, string>> {
    const body = this.#parse<ManifestBody>(manifest.bytes);
    const image = body.manifests?.find(({ platform }) => platform?.os !== "unknown");
    if (image) {
      const inner = await this.getManifest(repository, image.digest, signal);
      return inner ? this.getImageLabels(repository, inner, signal) : {};
    }
    if (!body.config) return {};
    const path = `/v2/${repository}/blobs/${body.config.digest}`;
    const response = await this.#send({ method: "GET", path, signal: this.#bounded(signal) });
    if (response.status === 404) return {};
    await this.#expect(response, 200);
    const config = this.#parse<{ config?: { Labels?: Record<string, string> | null } }>(
      await this.#body(response),
    );
    return config.config?.Labels ?? {};
  }

  /** Throws TAG_IMMUTABLE, ECR_AUTH, ECR_REPO_NOT_FOUND or PUSH_FAILED; after a PUSH_FAILED the tag may be there. */
  async putManifest(repository: string, tag: string, manifest: Manifest, timeoutMs: number): Promise<void> {
    const response = await this.#send({
      method: "PUT",
      path: `/v2/${repository}/manifests/${tag}`,
      headers: { "Content-Type": manifest.mediaType },
      body: manifest.bytes,
      signal: AbortSignal.timeout(timeoutMs),
    });
    await this.#expect(response, 201);
  }

  /** False when the registry does not delete by tag: not every one does. */
  async deleteTag(repository: string, tag: string, signal: AbortSignal): Promise<boolean> {
    const path = `/v2/${repository}/manifests/${tag}`;
    const response = await this.#send({ method: "DELETE", path, signal: this.#bounded(signal) });
    await response.body?.cancel();
    return response.status === 202;
  }

  #bounded(signal: AbortSignal): AbortSignal {
    return AbortSignal.any([signal, AbortSignal.timeout(this.#timeoutMs)]);
  }

  async #send(request: RegistryRequest): Promise<Response> {
    const { access } = this.#login;
    const response = await this.#sendAs(access, request);
    if (!(await refusesLogin(response)) || !(await this.#hasOther(access, request.signal))) return response;
    await response.body?.cancel();
    return this.#sendAs(this.#login.access, request);
  }

  /** Somebody else may have renewed the login meanwhile. */
  async #hasOther(refused: RegistryAccess, signal: AbortSignal): Promise<boolean> {
    if (this.#login.access !== refused) return true;
    try {
      return await orAbort(this.#login.renew(), signal);
    } catch (cause) {
      throw this.#unreachable("refused the credentials, and there was no time to renew them", cause);
    }
  }

  async #sendAs({ credentials, origin }: RegistryAccess, request: RegistryRequest): Promise<Response> {
    const basic = credentials && basicAuthorization(credentials);
    const response = await this.#follow(request, origin, basic);
    const tokenUrl = tokenUrlOf(response, origin);
    if (!tokenUrl) return response;
    await response.body?.cancel();
    const answer = await this.#fetch(tokenUrl, { method: "GET", signal: request.signal }, basic);
    if (answer.status === 401 || answer.status === 403) return answer;
    await this.#expect(answer, 200);
    const { token, access_token = token } = this.#parse<{ token?: string; access_token?: string }>(
      await this.#body(answer),
    );
    return this.#follow(request, origin, `Bearer ${access_token}`);
  }

  async #follow(request: RegistryRequest, origin: string, authorization?: string): Promise<Response> {
    let url = new URL(request.path, origin);
    for (let hop = 0; hop <= MOST_REDIRECTS; hop++) {
      // Blobs are often served from another host, which must not be given the registry's credentials.
      const response = await this.#fetch(url, request, url.origin === origin ? authorization : undefined);
      const location = response.headers.get("location");
      const redirected = response.status >= 301 && response.status <= 308 && location !== null;
      if (!redirected || request.method === "PUT") return response;
      await response.body?.cancel();
      url = new URL(location, url);
    }
    throw this.#unreachable(`redirects ${request.path} more than ${MOST_REDIRECTS} times`);
  }

  async #fetch(
    url: URL,
    { method, headers, body, signal }: Omit<RegistryRequest, "path">,
    authorization?: string,
  ): Promise<Response> {
    try {
      return await fetch(url, {
        method,
        headers: { ...headers, ...(authorization && { Authorization: authorization }) },
        body,
        signal,
        redirect: "manual",
      });
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw this.#unreachable(`cannot be reached: ${why}`, cause);
    }
  }

  async #body(response: Response): Promise<Uint8Array<ArrayBuffer>> {
    try {
      const bytes = new Uint8Array(await response.arrayBuffer());
      if (bytes.length <= LONGEST_BODY_BYTES) return bytes;
    } catch (cause) {
      throw this.#unreachable(`broke its answer off`, cause);
    }
    throw this.#unreachable(`sent more than ${LONGEST_BODY_BYTES} bytes`);
  }

  async #expect(response: Response, status: number): Promise<void> {
    if (response.status === status) return;
    const body = new TextDecoder().decode(await this.#body(response));
    throw registryRefusal(this.#login.access.host, response.status, body, this.#step);
  }

  #parse<T>(bytes: Uint8Array): T {
    try {
      return JSON.parse(new TextDecoder().decode(bytes)) as T;
    } catch (cause) {
      throw this.#unreachable("sent something that is not JSON", cause);
    }
  }

  #unreachable(what: string, cause?: unknown): StepFailure {
    const message = `the registry ${this.#login.access.host} ${what}`;
    return new StepFailure({ code: "PUSH_FAILED", step: this.#step, message, retryable: true, cause });
  }
}

function basicAuthorization({ username, password }: RegistryCredentials): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
}

/** ECR says 403 of a token that has expired, and says so in words; otherwise 403 is about what one may do. */
async function refusesLogin(response: Response): Promise<boolean> {
  if (response.status !== 403) return response.status === 401;
  const body = await response
    .clone()
    .text()
    .catch(() => "");
  return /expired/i.test(body);
}
