import {
  CreateRepositoryCommand,
  DescribeRepositoriesCommand,
  ECRClient,
  GetAuthorizationTokenCommand,
  type ImageTagMutability,
} from "@aws-sdk/client-ecr";
import { AssumeRoleCommand, STSClient } from "@aws-sdk/client-sts";
import { ecrAuthFailure } from "./ecr-failure.ts";
import { ecrRegistryHost } from "./ecr-registry-host.ts";
import { type EcrToken, EcrTokenCache } from "./ecr-token-cache.ts";
import type { AuthenticationRequest, RegistryAccess, RegistryAuthenticator } from "./registry-access.ts";
import { StepFailure } from "./step-failure.ts";

export interface EcrSettings {
  /** With `{account}` in the place of the job's account; without it the worker's own credentials are used. */
  readonly roleArnTemplate?: string;
  /** Make a repository that does not exist. */
  readonly createRepository: boolean;
  /** How long a cached token must still live to be given to a run. */
  readonly tokenUsableForMs?: number;
}

type TagMutability = RegistryAccess["tagMutability"];

const HTTP_LIMITS = { connectionTimeout: 5000, requestTimeout: 15_000 };
/** The SDK itself waits between tries of what was throttled or failed on the way. */
const SDK_ATTEMPTS = 4;
/** As long as a run may take by default, and some more. */
const TOKEN_USABLE_FOR_MS = 45 * 60_000;
const ROLE_SESSION_NAME = "blacktree-worker";
const MUTABILITY: Partial<Record<ImageTagMutability, TagMutability>> = {
  MUTABLE: "mutable",
  IMMUTABLE: "immutable",
};

/** Signs in to ECR with the AWS SDK, which finds credentials and endpoints as everywhere else on the host. */
export class EcrAuthenticator implements RegistryAuthenticator {
  readonly #settings: EcrSettings;
  readonly #tokens: EcrTokenCache;
  /** A client keeps its credentials and connections, so there is one per account and region. */
  readonly #clients = new Map<string, ECRClient>();

  constructor(settings: EcrSettings) {
    this.#settings = settings;
    this.#tokens = new EcrTokenCache(settings.tokenUsableForMs ?? TOKEN_USABLE_FOR_MS);
  }

  async authenticate(request: AuthenticationRequest): Promise<RegistryAccess> {
    const { awsAccount, region } = request.job;
    const key = `${awsAccount} ${region}`;
    const ecr = this.#client(key, awsAccount, region);
    const [token, tagMutability] = await Promise.all([
      this.#tokens.get(key, () => askToken(ecr)),
      this.#repository(ecr, request),
    ]);
    request.signal.throwIfAborted();
    const { host, origin } = ecrRegistryHost(token.proxyEndpoint, awsAccount);
    return {
      host,
      origin,
      credentials: { username: token.username, password: token.password },
      tagMutability,
    };
  }

  #client(key: string, awsAccount: string, region: string): ECRClient {
    const made = this.#clients.get(key);
    if (made) return made;
    const credentials = this.#roleCredentials(awsAccount, region);
    const client = new ECRClient({
      region,
      credentials,
      maxAttempts: SDK_ATTEMPTS,
      requestHandler: HTTP_LIMITS,
    });
    this.#clients.set(key, client);
    return client;
  }

  /** Called by the SDK again when what it gave has expired. */
  #roleCredentials(awsAccount: string, region: string) {
    const RoleArn = this.#settings.roleArnTemplate?.replaceAll("{account}", awsAccount);
    if (RoleArn === undefined) return undefined;
    const sts = new STSClient({ region, maxAttempts: SDK_ATTEMPTS, requestHandler: HTTP_LIMITS });
    return async () => {
      const command = new AssumeRoleCommand({ RoleArn, RoleSessionName: ROLE_SESSION_NAME });
      const { Credentials } = await sts.send(command).catch((error: unknown) => {
        throw ecrAuthFailure(`the role ${RoleArn} cannot be assumed`, error);
      });
      return {
        accessKeyId: Credentials?.AccessKeyId ?? "",
        secretAccessKey: Credentials?.SecretAccessKey ?? "",
        sessionToken: Credentials?.SessionToken,
        expiration: Credentials?.Expiration,
      };
    };
  }

  async #repository(ecr: ECRClient, { job, log, signal }: AuthenticationRequest): Promise<TagMutability> {
    const command = new DescribeRepositoriesCommand({
      registryId: job.awsAccount,
      repositoryNames: [job.ecrRepo],
    });
    try {
      const { repositories } = await ecr.send(command, { abortSignal: signal });
      const mutability = repositories?.[0]?.imageTagMutability;
      return (mutability && MUTABILITY[mutability]) ?? "unknown";
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof StepFailure) throw error;
      if (errorName(error) === "RepositoryNotFoundException") return this.#missingRepository(ecr, job);
      // A worker need not be allowed to look: the registry itself decides when it is pushed to.
      log(`cannot look at the ECR repository ${job.ecrRepo} before the push: ${errorName(error)}`);
      return "unknown";
    }
  }

  async #missingRepository(ecr: ECRClient, job: AuthenticationRequest["job"]): Promise<TagMutability> {
    if (!this.#settings.createRepository) {
      const message = `there is no ECR repository ${job.ecrRepo} in account ${job.awsAccount}, ${job.region}`;
      throw new StepFailure({ code: "ECR_REPO_NOT_FOUND", step: "authenticate", message });
    }
    const command = new CreateRepositoryCommand({ registryId: job.awsAccount, repositoryName: job.ecrRepo });
    try {
      await ecr.send(command);
    } catch (error) {
      // Another run was faster.
      if (errorName(error) !== "RepositoryAlreadyExistsException") {
        throw ecrAuthFailure(`the ECR repository ${job.ecrRepo} cannot be created`, error);
      }
    }
    return "mutable";
  }
}

async function askToken(ecr: ECRClient): Promise<EcrToken> {
  try {
    const { authorizationData } = await ecr.send(new GetAuthorizationTokenCommand({}));
    const [answer] = authorizationData ?? [];
    const [username, password] = splitOnce(
      Buffer.from(answer?.authorizationToken ?? "", "base64").toString(),
    );
    if (!answer?.proxyEndpoint || password === "") throw new Error("the answer holds no token");
    const { proxyEndpoint, expiresAt = new Date(0) } = answer;
    return { username, password, proxyEndpoint, expiresAt };
  } catch (error) {
    if (error instanceof StepFailure) throw error;
    throw ecrAuthFailure("ECR gives no authorization token", error);
  }
}

function splitOnce(pair: string): [before: string, after: string] {
  const at = pair.indexOf(":");
  return [pair.slice(0, at), pair.slice(at + 1)];
}

function errorName(error: unknown): string {
  return error instanceof Error ? error.name : String(error);
}
