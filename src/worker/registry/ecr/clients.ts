import { ECRClient, type ECRClientConfig } from "@aws-sdk/client-ecr";
import { AssumeRoleCommand, STSClient, type STSClientConfig } from "@aws-sdk/client-sts";
import { awsRequestHandler } from "../../../shared/aws/request-handler.ts";
import { StepFailure } from "../../job/failure.ts";
import { findWorkerCredentials } from "./credentials.ts";
import { ecrAuthFailure } from "./failure.ts";
import { partitionOf } from "./partition.ts";
import {
  type EcrRegistry,
  type EcrRole,
  externalIdOf,
  type SessionJob,
  sessionName,
  sessionPolicy,
} from "./role.ts";

/** The SDK waits between attempts, longer when AWS throttles, and then limits the rate of all its requests. */
const RETRIES = { retryMode: "adaptive", maxAttempts: 5 };

type ClientSettings = Pick<ECRClientConfig & STSClientConfig, "retryMode" | "maxAttempts" | "requestHandler">;

/**
 * A client has credentials, connections and a rate limit. Without a role, each account and region has one client; with a
 * role, each job has one, since its session is for its repositories only.
 */
export class EcrClients {
  readonly #role: EcrRole | undefined;
  readonly #settings: ClientSettings;
  readonly #clients = new Map<string, ECRClient>();
  readonly #stsClients = new Map<string, STSClient>();

  /** Without a role the worker's own credentials are used for every account. */
  constructor(role: EcrRole | undefined, requestTimeoutMs: number) {
    this.#role = role;
    this.#settings = {
      ...RETRIES,
      requestHandler: awsRequestHandler(requestTimeoutMs),
    };
  }

  get areOfOneJob(): boolean {
    return this.#role !== undefined;
  }

  of(job: SessionJob): ECRClient {
    const { awsAccount, region } = job;
    return this.#client(job, { region, account: awsAccount }, (role) => sessionPolicy(role, job));
  }

  /** For the registry of another account. With a role, the job's session has `policy`. */
  forPulls(job: SessionJob, registry: EcrRegistry, policy: string): ECRClient {
    return this.#client(job, registry, () => policy);
  }

  #client(
    job: SessionJob,
    { region, account }: Pick<EcrRegistry, "region" | "account">,
    policyOf: (role: EcrRole) => string,
  ): ECRClient {
    const settings = { ...this.#settings, region };
    if (this.#role) {
      const sts = this.#stsOf(job.region);
      const credentials = roleCredentials(this.#role, job, sts, policyOf(this.#role));
      return new ECRClient({ ...settings, credentials });
    }
    return existingOr(
      this.#clients,
      `${account} ${region}`,
      () => new ECRClient({ ...settings, credentials: ownCredentials(region) }),
    );
  }

  #stsOf(region: string): STSClient {
    return existingOr(
      this.#stsClients,
      region,
      () => new STSClient({ ...this.#settings, region, credentials: ownCredentials(region) }),
    );
  }
}

function existingOr<Client>(clients: Map<string, Client>, key: string, create: () => Client): Client {
  const client = clients.get(key) ?? create();
  clients.set(key, client);
  return client;
}

const ownCredentials = (region: string) => () => findWorkerCredentials(region);

/** Returns a credentials provider. The SDK calls it first, and again when the credentials have expired. */
function roleCredentials(role: EcrRole, job: SessionJob, sts: STSClient, policy: string) {
  const RoleArn = role.arnTemplate
    .replaceAll("{account}", job.awsAccount)
    .replaceAll("{partition}", partitionOf(job.region));
  const ExternalId = externalIdOf(role, job);
  return async () => {
    const command = new AssumeRoleCommand({
      RoleArn,
      RoleSessionName: sessionName(job),
      ExternalId,
      Policy: policy,
    });
    const { Credentials } = await sts.send(command).catch((error: unknown) => {
      if (error instanceof StepFailure) throw error;
      const suffix = ExternalId === undefined ? "" : " with the external id of BLACKTREE_ECR_EXTERNAL_ID";
      throw ecrAuthFailure(`the role ${RoleArn} cannot be assumed${suffix}`, error);
    });
    return {
      accessKeyId: Credentials?.AccessKeyId ?? "",
      secretAccessKey: Credentials?.SecretAccessKey ?? "",
      sessionToken: Credentials?.SessionToken,
      expiration: Credentials?.Expiration,
    };
  };
}
