import { ECRClient, type ECRClientConfig } from "@aws-sdk/client-ecr";
import { AssumeRoleCommand, STSClient, type STSClientConfig } from "@aws-sdk/client-sts";
import { ecrAuthFailure } from "./failure.ts";

export interface EcrRole {
  /** `{account}` and `{partition}` stand for the job's account and its region's partition. */
  readonly arnTemplate: string;
  /** Required by the role's trust policy, so that a job of another tenant cannot make the worker assume the role. */
  readonly externalId?: string;
}

/** The SDK waits between attempts, longer when AWS throttles, and then limits the rate of all its requests. */
const RETRIES = { retryMode: "adaptive", maxAttempts: 5 };
const CONNECT_TIMEOUT_MS = 5000;
const ROLE_SESSION_NAME = "blacktree-worker";

type ClientSettings = Pick<ECRClientConfig & STSClientConfig, "retryMode" | "maxAttempts" | "requestHandler">;

/** A client has credentials, connections and a rate limit, so each account and region has one client. */
export class EcrClients {
  readonly #role: EcrRole | undefined;
  readonly #settings: ClientSettings;
  readonly #clients = new Map<string, ECRClient>();

  /** Without a role the worker's own credentials are used for every account. */
  constructor(role: EcrRole | undefined, requestTimeoutMs: number) {
    this.#role = role;
    this.#settings = {
      ...RETRIES,
      // Without `throwOnRequestTimeout` the SDK only logs a warning and keeps waiting.
      requestHandler: {
        connectionTimeout: CONNECT_TIMEOUT_MS,
        requestTimeout: requestTimeoutMs,
        throwOnRequestTimeout: true,
      },
    };
  }

  of(awsAccount: string, region: string): ECRClient {
    const key = `${awsAccount} ${region}`;
    const existing = this.#clients.get(key);
    if (existing) return existing;
    const settings = { ...this.#settings, region };
    const credentials = this.#role && roleCredentials(this.#role, awsAccount, settings);
    const client = new ECRClient({ ...settings, credentials });
    this.#clients.set(key, client);
    return client;
  }
}

/** Returns a credentials provider. The SDK calls it first, and again when the credentials have expired. */
function roleCredentials(
  { arnTemplate, externalId }: EcrRole,
  awsAccount: string,
  settings: ClientSettings & { readonly region: string },
) {
  const RoleArn = arnTemplate
    .replaceAll("{account}", awsAccount)
    .replaceAll("{partition}", partitionOf(settings.region));
  const sts = new STSClient(settings);
  return async () => {
    const command = new AssumeRoleCommand({
      RoleArn,
      RoleSessionName: ROLE_SESSION_NAME,
      ExternalId: externalId,
    });
    const { Credentials } = await sts.send(command).catch((error: unknown) => {
      const suffix = externalId === undefined ? "" : " with the external id of BLACKTREE_ECR_EXTERNAL_ID";
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

/** The partition of AWS that a region belongs to, as in ARNs. Partitions do not share accounts and roles. */
const PARTITIONS: readonly (readonly [regions: RegExp, partition: string])[] = [
  [/^cn-/, "aws-cn"],
  [/^us-gov-/, "aws-us-gov"],
  [/^us-iso-/, "aws-iso"],
  [/^us-isob-/, "aws-iso-b"],
  [/^eu-isoe-/, "aws-iso-e"],
  [/^us-isof-/, "aws-iso-f"],
  [/^eusc-/, "aws-eusc"],
];

export function partitionOf(region: string): string {
  return PARTITIONS.find(([regions]) => regions.test(region))?.[1] ?? "aws";
}
