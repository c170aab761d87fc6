import { type ECRClient, GetAuthorizationTokenCommand } from "@aws-sdk/client-ecr";
import { StepFailure } from "../../job/failure.ts";
import type {
  AuthenticationRequest,
  RegistryAccess,
  RegistryAuthenticator,
  TimedCredentials,
} from "../access.ts";
import { EcrClients } from "./clients.ts";
import { ecrAuthFailure } from "./failure.ts";
import { ecrRepository, type NewEcrRepository } from "./repository.ts";
import type { EcrRole } from "./role.ts";
import { tagMutability } from "./tag-mutability.ts";
import { type EcrToken, EcrTokenCache, type UsableEcrToken } from "./token-cache.ts";

export interface EcrSettings {
  /** Without a role the worker's own credentials are used. */
  readonly role?: EcrRole;
  /** Without this a missing repository is not created. */
  readonly newRepository?: NewEcrRepository;
  /** Minimum remaining lifetime of a cached token that a run gets. */
  readonly tokenUsableForMs?: number;
  /** Timeout of one request to AWS; the SDK retries each several times. */
  readonly requestTimeoutMs?: number;
}

/** The default timeout of a run, and some more. */
export const TOKEN_USABLE_FOR_MS = 45 * 60_000;
export const REQUEST_TIMEOUT_MS = 15_000;

/** Signs in to ECR with the AWS SDK, which finds credentials and endpoints as any AWS program on the host does. */
export class EcrAuthenticator implements RegistryAuthenticator {
  readonly #settings: EcrSettings;
  readonly #clients: EcrClients;
  readonly #tokenUsableForMs: number;
  readonly #tokens: EcrTokenCache;

  constructor(settings: EcrSettings) {
    this.#settings = settings;
    this.#clients = new EcrClients(settings.role, settings.requestTimeoutMs ?? REQUEST_TIMEOUT_MS);
    this.#tokenUsableForMs = settings.tokenUsableForMs ?? TOKEN_USABLE_FOR_MS;
    this.#tokens = new EcrTokenCache(this.#tokenUsableForMs);
  }

  async authenticate(request: AuthenticationRequest): Promise<RegistryAccess> {
    const { awsAccount, region, deploymentVersion } = request.job;
    const ecr = this.#clients.of(request.job);
    const tokens = { cache: this.#tokensOfRun(), key: `${awsAccount} ${region}` };
    const [token, repository] = await Promise.all([
      tokens.cache.get(tokens.key, () => requestToken(ecr)),
      ecrRepository(ecr, request, this.#settings.newRepository),
    ]);
    request.signal.throwIfAborted();
    return {
      ...ecrRegistryHost(token.proxyEndpoint, awsAccount),
      ...credentialsOf(tokens, ecr, token),
      tagMutability: tagMutability(repository, deploymentVersion),
    };
  }

  /** A token of a role's session is good for one job's repositories only. */
  #tokensOfRun(): EcrTokenCache {
    return this.#clients.areOfOneJob ? new EcrTokenCache(this.#tokenUsableForMs) : this.#tokens;
  }
}

interface Tokens {
  readonly cache: EcrTokenCache;
  readonly key: string;
}

function credentialsOf(tokens: Tokens, ecr: ECRClient, token: UsableEcrToken): TimedCredentials {
  const { username, password, usableUntilMs } = token;
  const renew = async () => {
    tokens.cache.forget(tokens.key, token);
    return credentialsOf(tokens, ecr, await tokens.cache.get(tokens.key, () => requestToken(ecr)));
  };
  return { credentials: { username, password }, usableUntilMs, renew };
}

/** @throws StepFailure with code ECR_AUTH */
export async function requestToken(ecr: ECRClient): Promise<EcrToken> {
  try {
    const { authorizationData } = await ecr.send(new GetAuthorizationTokenCommand({}));
    const [data] = authorizationData ?? [];
    const [username, password] = splitOnce(Buffer.from(data?.authorizationToken ?? "", "base64").toString());
    if (!data?.proxyEndpoint || password === "") throw new Error("the response contains no token");
    const { proxyEndpoint, expiresAt = new Date(0) } = data;
    return { username, password, proxyEndpoint, expiresAt };
  } catch (error) {
    if (error instanceof StepFailure) throw error;
    throw ecrAuthFailure("failed to get an ECR authorization token", error);
  }
}

function splitOnce(pair: string): [before: string, after: string] {
  const at = pair.indexOf(":");
  return [pair.slice(0, at), pair.slice(at + 1)];
}

const AWS_HOST =
  /^\d+(\.dkr[.-]ecr(?:-fips)?\.[a-z0-9-]+\.(?:amazonaws\.com(?:\.cn)?|on\.aws|on\.amazonwebservices\.com\.cn))$/;

export interface RegistryHost {
  readonly host: string;
  readonly origin: string;
}

/**
 * The registry's host, from the response to an authorization request. On AWS the response names the caller's account,
 * but the token is valid for every registry that the caller may use, so the job's account replaces it. Any other host
 * belongs to an emulator or a mirror, and is used unchanged.
 */
export function ecrRegistryHost(proxyEndpoint: string, awsAccount: string): RegistryHost {
  const { host, protocol } = new URL(proxyEndpoint);
  const ownHost = host.replace(AWS_HOST, `${awsAccount}$1`);
  return { host: ownHost, origin: `${protocol}//${ownHost}` };
}
