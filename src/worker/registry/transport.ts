/** One request to a registry: with the run's login, along redirects, and with a bound on the response body. */
import { orAbort } from "../../shared/abort.ts";
import type { Step } from "../../shared/job.ts";
import { StepFailure } from "../job/failure.ts";
import type { RegistryAccess, RegistryCredentials } from "./access.ts";
import { tokenUrlOf } from "./bearer.ts";
import type { RegistryLogin } from "./login.ts";
import { registryRefusal } from "./refusal.ts";

export interface RegistryRequest {
  readonly method: "GET" | "HEAD" | "PUT" | "DELETE";
  readonly path: string;
  readonly headers?: Record<string, string>;
  readonly body?: Uint8Array<ArrayBuffer>;
  readonly signal: AbortSignal;
}

const MAX_REDIRECTS = 3;
/** Manifests and image configurations are small; a longer body is neither. */
const MAX_BODY_BYTES = 8 * 1024 * 1024;

export class RegistryTransport {
  readonly #login: RegistryLogin;
  readonly #step: Step;

  /** `step` is the step that failures are reported for. */
  constructor(login: RegistryLogin, step: Step) {
    this.#login = login;
    this.#step = step;
  }

  /** Renews the credentials and sends the request again when the registry refuses them. */
  async send(request: RegistryRequest): Promise<Response> {
    const { access } = this.#login;
    const response = await this.#sendAs(access, request);
    if (!(await refusesLogin(response)) || !(await this.#hasNewLogin(access, request.signal)))
      return response;
    await response.body?.cancel();
    return this.#sendAs(this.#login.access, request);
  }

  async body(response: Response): Promise<Uint8Array<ArrayBuffer>> {
    const chunks: Uint8Array[] = [];
    let sizeBytes = 0;
    try {
      for await (const chunk of response.body ?? []) {
        sizeBytes += chunk.byteLength;
        // Leaving the loop cancels the rest.
        if (sizeBytes > MAX_BODY_BYTES) break;
        chunks.push(chunk);
      }
    } catch (cause) {
      throw this.#failure("closed the connection in the middle of its response", cause);
    }
    if (sizeBytes <= MAX_BODY_BYTES) return new Uint8Array(Buffer.concat(chunks));
    throw this.#failure(`sent more than ${MAX_BODY_BYTES} bytes`);
  }

  async expect(response: Response, status: number): Promise<void> {
    if (response.status === status) return;
    const body = new TextDecoder().decode(await this.body(response));
    throw registryRefusal(this.#login.access.host, response, body, this.#step);
  }

  parse<T>(bytes: Uint8Array): T {
    try {
      return JSON.parse(new TextDecoder().decode(bytes)) as T;
    } catch (cause) {
      throw this.#failure("sent a response that is not JSON", cause);
    }
  }

  /** Another request of the run may have renewed the login already. */
  async #hasNewLogin(refused: RegistryAccess, signal: AbortSignal): Promise<boolean> {
    if (this.#login.access !== refused) return true;
    try {
      return await orAbort(this.#login.renew(), signal);
    } catch (cause) {
      throw this.#failure(
        "refused the credentials, and the request timed out while they were renewed",
        cause,
      );
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
    await this.expect(answer, 200);
    const { token, access_token = token } = this.parse<{ token?: string; access_token?: string }>(
      await this.body(answer),
    );
    return this.#follow(request, origin, `Bearer ${access_token}`);
  }

  async #follow(request: RegistryRequest, origin: string, authorization?: string): Promise<Response> {
    let url = new URL(request.path, origin);
    for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
      // Blobs are often served from another host, which must not get the registry's credentials.
      const response = await this.#fetch(url, request, url.origin === origin ? authorization : undefined);
      const location = response.headers.get("location");
      const redirected = response.status >= 301 && response.status <= 308 && location !== null;
      if (!redirected || request.method === "PUT") return response;
      await response.body?.cancel();
      url = new URL(location, url);
    }
    throw this.#failure(`redirects ${request.path} more than ${MAX_REDIRECTS} times`);
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
      throw this.#failure(`cannot be reached: ${why}`, cause);
    }
  }

  #failure(what: string, cause?: unknown): StepFailure {
    const message = `the registry ${this.#login.access.host} ${what}`;
    return new StepFailure({ code: "PUSH_FAILED", step: this.#step, message, retryable: true, cause });
  }
}

function basicAuthorization({ username, password }: RegistryCredentials): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
}

/** ECR answers 403 to an expired token, with "expired" in the body; any other 403 is a missing permission. */
async function refusesLogin(response: Response): Promise<boolean> {
  if (response.status !== 403) return response.status === 401;
  const body = await response
    .clone()
    .text()
    .catch(() => "");
  return /expired/i.test(body);
}
