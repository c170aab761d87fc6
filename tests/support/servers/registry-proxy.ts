import type { Server } from "bun";
import { freePort } from "../machine/free-port.ts";
import { type HeldRequests, Holds } from "../machine/held-requests.ts";
import type { Registry } from "./registry.ts";

export type LoginState = "valid" | "expired" | "unknown";

/** Behaviour of the registry; every field can be changed while it runs. */
export interface RegistryFaults {
  /** Only these exist, as in ECR, where a push does not create a repository. Undefined: all exist. */
  repositories?: ReadonlySet<string>;
  /** Repositories whose tags cannot be moved. */
  immutableRepositories?: ReadonlySet<string>;
  /** An immutable tag is also refused when it is put with the manifest that it already has. */
  refusesSameManifest?: boolean;
  accountId?: string;
  /** Checks a login. Without it, only the registry's own user and password are valid. */
  login?: (username: string, password: string) => LoginState;
}

export interface RequestFilter {
  method?: string;
  path?: RegExp;
}

export interface FailureOptions extends RequestFilter {
  count: number;
  status: number;
  headers?: Record<string, string>;
  /** The error code in the answer's body. */
  code?: string;
}

export interface RecordedRequest {
  method: string;
  /** With the query. */
  path: string;
  user: string | undefined;
  userAgent: string;
  /** The host that the client addresses: this proxy, or one in front of it. */
  host: string;
  /** Time of arrival, in ms since 1970. */
  at: number;
  /** Of the manifest in the request, once that has arrived. */
  digest: string | undefined;
  status: number | undefined;
}

export interface RegistryProxy {
  readonly url: string;
  readonly host: string;
  readonly faults: RegistryFaults;
  readonly requests: readonly RecordedRequest[];
  /** Requests that put or moved this tag, whatever their outcome. */
  tagPuts(repository: string, tag: string): RecordedRequest[];
  failNext(failure: FailureOptions): void;
  clearFailures(): void;
  /** Holds matching requests before they reach the registry. */
  hold(filter: RequestFilter): HeldRequests<RecordedRequest>;
  /** Holds the registry's answers to matching requests. */
  holdAnswers(filter: RequestFilter): HeldRequests<RecordedRequest>;
  stop(): Promise<void>;
}

function refusal(
  status: number,
  code: string,
  message: string,
  headers: Record<string, string> = {},
): Response {
  return Response.json({ errors: [{ code, message }] }, { status, headers });
}

function matches(filter: RequestFilter, request: RecordedRequest): boolean {
  return (
    (filter.method === undefined || filter.method === request.method) &&
    (filter.path === undefined || filter.path.test(request.path))
  );
}

function readLogin(request: Request): { username: string; password: string } | undefined {
  const encoded = /^Basic (.+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  if (encoded === undefined) return undefined;
  const [username = "", ...rest] = Buffer.from(encoded, "base64").toString().split(":");
  return { username, password: rest.join(":") };
}

function digestOf(body: ArrayBuffer): string {
  return `sha256:${new Bun.CryptoHasher("sha256").update(body).digest("hex")}`;
}

function repositoryOf(path: string): string | undefined {
  return /^\/v2\/(.+?)\/(?:manifests|blobs|tags|referrers)\//.exec(path)?.[1];
}

/**
 * A proxy before a registry that answers as ECR does where the two differ, and with the faults that a test sets.
 * Everything else passes through unchanged, blobs as streams.
 */
export async function startRegistryProxy(
  registry: Registry,
  faults: RegistryFaults = {},
): Promise<RegistryProxy> {
  const requests: RecordedRequest[] = [];
  const failures: FailureOptions[] = [];
  const holds = new Holds<RecordedRequest>();
  const answerHolds = new Holds<RecordedRequest>();
  const upstreamAuthorization = `Basic ${btoa(`${registry.username}:${registry.password}`)}`;

  function login(request: Request): LoginState {
    const given = readLogin(request);
    if (given === undefined) return "unknown";
    if (faults.login) return faults.login(given.username, given.password);
    return given.username === registry.username && given.password === registry.password ? "valid" : "unknown";
  }

  function refuseLogin(request: Request): Response | undefined {
    const state = login(request);
    if (state === "valid") return undefined;
    if (state === "expired") {
      return refusal(403, "DENIED", "Your authorization token has expired. Reauthenticate and try again.");
    }
    return new Response("Not Authorized\n", {
      status: 401,
      headers: { "WWW-Authenticate": `Basic realm="http://${host}/",service="ecr.amazonaws.com"` },
    });
  }

  function refuseRepository(path: string): Response | undefined {
    const repository = repositoryOf(path);
    if (
      repository === undefined ||
      faults.repositories === undefined ||
      faults.repositories.has(repository)
    ) {
      return undefined;
    }
    const account = faults.accountId ?? "123456789012";
    const message = `The repository with name '${repository}' does not exist in the registry with id '${account}'`;
    return refusal(404, "NAME_UNKNOWN", message);
  }

  async function refuseTag(
    method: string,
    path: string,
    body: ArrayBuffer | undefined,
  ): Promise<Response | undefined> {
    const [, repository, tag] = /^\/v2\/(.+)\/manifests\/([^:?]+)$/.exec(path) ?? [];
    if (method !== "PUT" || !repository || !tag || !body) return undefined;
    if (!faults.immutableRepositories?.has(repository)) return undefined;
    const existing = await registry.getManifest(repository, tag);
    if (existing === undefined) return undefined;
    if (existing.digest === digestOf(body) && !faults.refusesSameManifest) return undefined;
    const message = `The image tag '${tag}' already exists in the '${repository}' repository and cannot be overwritten because the tag is immutable.`;
    return refusal(400, "TAG_INVALID", message);
  }

  function takeFailure(request: RecordedRequest): Response | undefined {
    const failure = failures.find((candidate) => candidate.count > 0 && matches(candidate, request));
    if (failure === undefined) return undefined;
    failure.count -= 1;
    const [code, message] =
      failure.status === 429
        ? ["TOOMANYREQUESTS", "Rate exceeded"]
        : ["UNKNOWN", "The service is temporarily unavailable"];
    return refusal(failure.status, failure.code ?? code, message, failure.headers);
  }

  async function pass(
    request: Request,
    { path, host: askedHost }: RecordedRequest,
    body: ArrayBuffer | ReadableStream | null,
  ): Promise<Response> {
    const headers = new Headers(request.headers);
    for (const name of ["connection", "host", "transfer-encoding"]) headers.delete(name);
    if (headers.has("authorization")) headers.set("authorization", upstreamAuthorization);
    // The registry's Location headers must lead back to here.
    headers.set("x-forwarded-host", askedHost);
    headers.set("x-forwarded-proto", "http");
    const answer = await fetch(`${registry.url}${path}`, {
      method: request.method,
      headers,
      body,
      redirect: "manual",
      decompress: false,
      signal: request.signal,
    });
    return new Response(answer.body, { status: answer.status, headers: answer.headers });
  }

  async function answer(request: Request, recorded: RecordedRequest): Promise<Response> {
    const { method, path } = recorded;
    await holds.pass(recorded);
    const refused = takeFailure(recorded) ?? refuseLogin(request) ?? refuseRepository(path);
    if (refused) return refused;
    // Manifests are small and inspected; blobs are neither.
    const body =
      method === "PUT" && path.includes("/manifests/") ? await request.arrayBuffer() : request.body;
    if (body instanceof ArrayBuffer) recorded.digest = digestOf(body);
    const refusedTag = await refuseTag(method, path, body instanceof ArrayBuffer ? body : undefined);
    return refusedTag ?? pass(request, recorded, body);
  }

  const server: Server<undefined> = Bun.serve({
    hostname: "127.0.0.1",
    port: await freePort(),
    idleTimeout: 0,
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    async fetch(request) {
      const { pathname, search } = new URL(request.url);
      const recorded: RecordedRequest = {
        method: request.method,
        path: `${pathname}${search}`,
        user: readLogin(request)?.username,
        userAgent: request.headers.get("user-agent") ?? "",
        host: request.headers.get("host") ?? host,
        at: Date.now(),
        digest: undefined,
        status: undefined,
      };
      requests.push(recorded);
      // When the registry is down, a proxy reports that.
      const response = await answer(request, recorded).catch(() => new Response(null, { status: 502 }));
      recorded.status = response.status;
      await answerHolds.pass(recorded);
      return response;
    },
  });
  const host = `127.0.0.1:${server.port}`;

  return {
    url: `http://${host}`,
    host,
    faults,
    requests,
    tagPuts: (repository, tag) =>
      requests.filter(
        ({ method, path }) => method === "PUT" && path === `/v2/${repository}/manifests/${tag}`,
      ),
    failNext(failure) {
      failures.push({ ...failure });
    },
    clearFailures() {
      failures.length = 0;
    },
    hold: (filter) => holds.add((request) => matches(filter, request)),
    holdAnswers: (filter) => answerHolds.add((request) => matches(filter, request)),
    stop: () => server.stop(true),
  };
}
