import { type HeldRequests, Holds } from "../machine/held-requests.ts";
import { ecrAnswer } from "./aws-ecr.ts";
import { type AwsKey, type SignatureVerdict, verifySignature } from "./aws-signature.ts";
import { stsAnswer } from "./aws-sts.ts";
import type { LoginState } from "./registry-proxy.ts";

export interface EcrRepository {
  name: string;
  imageTagMutability: "MUTABLE" | "IMMUTABLE" | "MUTABLE_WITH_EXCLUSION" | "IMMUTABLE_WITH_EXCLUSION";
  imageTagMutabilityExclusionFilters?: readonly { filterType: string; filter: string }[];
  scanOnPush?: boolean;
  lifecyclePolicyText?: string;
  tags?: readonly { Key: string; Value: string }[];
  /** Other accounts that the repository's policy allows. Undefined: it allows all accounts. */
  allowedAccounts?: readonly string[];
}

export interface RegistryLogin {
  username: string;
  password: string;
}

/** The outcome of API calls, apart from errors in the request itself. */
export interface AwsBehaviour {
  /** Number of following calls that are answered with ThrottlingException. */
  throttleNext: number;
  /** Number of following calls that are answered with a server error. */
  failNext: number;
  /** Actions that no key may use, such as "GetAuthorizationToken". */
  denied: readonly string[];
  /** Roles that AssumeRole refuses, by ARN. */
  deniedRoles: readonly string[];
  /** The external ids that the roles' trust policies require, by the role's ARN. */
  externalIds: Readonly<Record<string, string>>;
  /** Validity of a registry token; below zero the token has already expired. */
  tokenLifetimeMs: number;
  /** Returns a password that the registry does not accept. */
  wrongPassword: boolean;
  /** The registry's address that GetAuthorizationToken returns; it may change during a run. */
  proxyEndpoint: string;
  /** The registry's login, returned by every call. Undefined: each token has a different password; see `login`. */
  registryLogin: RegistryLogin | undefined;
  /** Validity of keys from AssumeRole. */
  sessionLifetimeMs: number;
  /** How far the clock of AWS is ahead of this machine's. */
  clockOffsetMs: number;
  /** Of every account's registry. */
  creationTemplates: readonly { readonly prefix: string; readonly appliedFor: readonly string[] }[];
}

export interface AwsCall {
  service: "ecr" | "sts";
  action: string;
  accessKeyId: string | undefined;
  /** The account of the key in this emulator. */
  account: string | undefined;
  input: Record<string, unknown>;
  /** The HTTP status, and the error code of a failed call. */
  status: number;
  error: string | undefined;
}

export interface AwsOptions extends Partial<AwsBehaviour> {
  region?: string;
  account?: string;
  /** The repositories that exist at the start, per account. */
  repositories?: Record<string, readonly (string | EcrRepository)[]>;
}

export interface AwsState {
  readonly region: string;
  readonly behaviour: AwsBehaviour;
  readonly keys: Map<string, AwsKey>;
  readonly repositories: Map<string, Map<string, EcrRepository>>;
  /** Passwords that were returned, and when they expire. */
  readonly registryTokens: Map<string, number>;
}

/** An answer before it is encoded for its protocol. */
export type AwsAnswer = { ok: Record<string, unknown> } | { error: string; message: string; status: number };

export interface Aws {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly account: string;
  readonly region: string;
  readonly calls: readonly AwsCall[];
  configure(change: Partial<AwsBehaviour>): void;
  /** Holds all calls of this action, such as "GetAuthorizationToken". */
  hold(action: string): HeldRequests<AwsCall>;
  addKey(key: Omit<AwsKey, "arn">): void;
  addRepository(account: string, repository: string | EcrRepository): void;
  removeRepository(account: string, name: string): void;
  repositories(account: string): EcrRepository[];
  /** The validity of a registry login, for a proxy in front of the registry. */
  login(username: string, password: string): LoginState;
  env(): Record<string, string>;
  stop(): Promise<void>;
}

const twelveHoursMs = 12 * 3_600_000;
const defaultAccount = "123456789012";

const defaultBehaviour: AwsBehaviour = {
  throttleNext: 0,
  failNext: 0,
  denied: [],
  deniedRoles: [],
  externalIds: {},
  tokenLifetimeMs: twelveHoursMs,
  wrongPassword: false,
  proxyEndpoint: "",
  registryLogin: undefined,
  sessionLifetimeMs: 3_600_000,
  clockOffsetMs: 0,
  creationTemplates: [],
};

function asRepository(given: string | EcrRepository): EcrRepository {
  return typeof given === "string" ? { name: given, imageTagMutability: "MUTABLE" } : given;
}

function disturb(state: AwsState, action: string, key: AwsKey): AwsAnswer | undefined {
  const { behaviour } = state;
  if (behaviour.throttleNext > 0) {
    behaviour.throttleNext -= 1;
    return { error: "ThrottlingException", message: "Rate exceeded", status: 400 };
  }
  if (behaviour.failNext > 0) {
    behaviour.failNext -= 1;
    return {
      error: "ServerException",
      message: "These errors are usually caused by a server-side issue.",
      status: 500,
    };
  }
  if (behaviour.denied.includes(action)) {
    const message = `User: ${key.arn} is not authorized to perform: ${action} because no identity-based policy allows the action`;
    return { error: "AccessDeniedException", message, status: 400 };
  }
  return undefined;
}

/** An `http://127.0.0.1` that implements the parts of ECR and STS that a builder needs, and verifies every request. */
export function startAws(options: AwsOptions = {}): Promise<Aws> {
  const { region = "us-east-1", account = defaultAccount, repositories = {}, ...behaviour } = options;
  const calls: AwsCall[] = [];
  const holds = new Holds<AwsCall>();
  const state: AwsState = {
    region,
    behaviour: { ...defaultBehaviour, ...behaviour },
    keys: new Map(),
    repositories: new Map(
      Object.entries(repositories).map(([owner, given]) => [
        owner,
        new Map(given.map(asRepository).map((repository) => [repository.name, repository])),
      ]),
    ),
    registryTokens: new Map(),
  };
  const ownKey: AwsKey = {
    accessKeyId: `AKIA${crypto.randomUUID().replaceAll("-", "").slice(0, 16).toUpperCase()}`,
    secretAccessKey: crypto.randomUUID(),
    account,
    arn: `arn:aws:iam::${account}:user/builder`,
  };
  state.keys.set(ownKey.accessKeyId, ownKey);

  function decide(verdict: SignatureVerdict, call: AwsCall): AwsAnswer {
    if (!verdict.accepted) {
      return { error: verdict.code, message: verdict.message, status: call.service === "ecr" ? 400 : 403 };
    }
    call.account = verdict.key.account;
    const disturbance = disturb(state, call.action, verdict.key);
    if (disturbance) return disturbance;
    const answer = call.service === "ecr" ? ecrAnswer : stsAnswer;
    return answer(state, call.action, call.input, verdict.key);
  }

  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    idleTimeout: 0,
    async fetch(request) {
      const body = await request.bytes();
      const text = new TextDecoder().decode(body);
      const target = request.headers.get("x-amz-target");
      const form = new URLSearchParams(text);
      const call: AwsCall = {
        service: target === null ? "sts" : "ecr",
        action: target === null ? (form.get("Action") ?? "") : target.replace(/^.*\./, ""),
        accessKeyId: /Credential=([^/]+)\//.exec(request.headers.get("authorization") ?? "")?.[1],
        account: undefined,
        input: target === null ? Object.fromEntries(form) : parseJson(text),
        status: 200,
        error: undefined,
      };
      calls.push(call);
      await holds.pass(call);
      const verdict = verifySignature(
        { method: request.method, url: new URL(request.url), headers: request.headers, body },
        {
          service: call.service,
          region,
          nowMs: Date.now() + state.behaviour.clockOffsetMs,
          keyOf: (id) => state.keys.get(id),
        },
      );
      const answer = decide(verdict, call);
      if ("error" in answer) {
        call.status = answer.status;
        call.error = answer.error;
      }
      const response = call.service === "ecr" ? jsonResponse(answer) : xmlResponse(call.action, answer);
      response.headers.set("Date", new Date(Date.now() + state.behaviour.clockOffsetMs).toUTCString());
      return response;
    },
  });
  const endpoint = `http://127.0.0.1:${server.port}`;

  return Promise.resolve({
    endpoint,
    accessKeyId: ownKey.accessKeyId,
    secretAccessKey: ownKey.secretAccessKey,
    account,
    region,
    calls,
    configure(change) {
      Object.assign(state.behaviour, change);
    },
    hold: (held) => holds.add(({ action }) => action === held),
    addKey(key) {
      state.keys.set(key.accessKeyId, { ...key, arn: `arn:aws:iam::${key.account}:user/${key.accessKeyId}` });
    },
    addRepository(owner, repository) {
      const existing = state.repositories.get(owner) ?? new Map<string, EcrRepository>();
      state.repositories.set(owner, existing);
      const added = asRepository(repository);
      existing.set(added.name, added);
    },
    removeRepository(owner, name) {
      state.repositories.get(owner)?.delete(name);
    },
    repositories: (owner) => [...(state.repositories.get(owner)?.values() ?? [])],
    login(username, password) {
      const expiresAtMs = state.registryTokens.get(password);
      if (username !== "AWS" || expiresAtMs === undefined) return "unknown";
      return expiresAtMs > Date.now() ? "valid" : "expired";
    },
    env: () => ({
      AWS_ACCESS_KEY_ID: ownKey.accessKeyId,
      AWS_SECRET_ACCESS_KEY: ownKey.secretAccessKey,
      AWS_REGION: region,
      AWS_ENDPOINT_URL_ECR: endpoint,
      AWS_ENDPOINT_URL_STS: endpoint,
      // The machine's AWS configuration must not be read.
      AWS_EC2_METADATA_DISABLED: "true",
      AWS_CONFIG_FILE: "/dev/null",
      AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
    }),
    stop: () => server.stop(true),
  });
}

/** An unreadable body yields an empty input: its signature is not valid either, so the request is refused for that. */
function parseJson(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return {};
  }
}

function jsonResponse(answer: AwsAnswer): Response {
  const headers = { "Content-Type": "application/x-amz-json-1.1", "x-amzn-RequestId": crypto.randomUUID() };
  if ("ok" in answer) return new Response(JSON.stringify(answer.ok), { headers });
  const { error, message, status } = answer;
  return new Response(JSON.stringify({ __type: error, message }), { status, headers });
}

function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function xml(value: unknown): string {
  if (typeof value !== "object" || value === null) return escapeXml(String(value));
  return Object.entries(value)
    .map(([name, inner]) => `<${name}>${xml(inner)}</${name}>`)
    .join("");
}

function xmlResponse(action: string, answer: AwsAnswer): Response {
  const namespace = 'xmlns="https://sts.amazonaws.com/doc/2011-06-15/"';
  const requestId = crypto.randomUUID();
  const headers = { "Content-Type": "text/xml", "x-amzn-RequestId": requestId };
  if ("ok" in answer) {
    const body = xml({ [`${action}Result`]: answer.ok, ResponseMetadata: { RequestId: requestId } });
    return new Response(`<${action}Response ${namespace}>${body}</${action}Response>`, { headers });
  }
  const { error, message, status } = answer;
  // The query protocol's error names have no suffix.
  const code = error.replace(/Exception$/, "");
  const body = xml({
    Error: { Type: status < 500 ? "Sender" : "Receiver", Code: code, Message: message },
    RequestId: requestId,
  });
  return new Response(`<ErrorResponse ${namespace}>${body}</ErrorResponse>`, { status, headers });
}
