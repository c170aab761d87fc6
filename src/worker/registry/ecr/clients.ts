import { ECRClient, type ECRClientConfig } from "@aws-sdk/client-ecr";
import { AssumeRoleCommand, STSClient, type STSClientConfig } from "@aws-sdk/client-sts";
import { ecrAuthFailure } from "./failure.ts";

export interface EcrRole {
  /** With `{account}` and `{partition}` in the place of the job's account and of its region's partition. */
  readonly arnTemplate: string;
  /** What the role's trust policy asks for, so that nobody else's job makes us assume it. */
  readonly externalId?: string;
}

/** The SDK waits between tries, longer when AWS throttles, and then asks less often altogether. */
const RETRIES = { retryMode: "adaptive", maxAttempts: 5 };
const CONNECT_TIMEOUT_MS = 5000;
const ROLE_SESSION_NAME = "blacktree-worker";

type ClientSettings = Pick<ECRClientConfig & STSClientConfig, "retryMode" | "maxAttempts" | "requestHandler">;

/** A client keeps its credentials, its connections and its pace, so there is one per account and region. */
export class EcrClients {
  readonly #role: EcrRole | undefined;
  readonly #settings: ClientSettings;
  readonly #clients = new Map<string, ECRClient>();

  /** Without a role the worker's own credentials are used, for every account. */
  constructor(role: EcrRole | undefined, requestTimeoutMs: number) {
    this.#role = role;
    this.#settings = {
      ...RETRIES,
      // Without `throwOnRequestTimeout` the SDK only writes a warning, and waits on.
      requestHandler: {
        connectionTimeout: CONNECT_TIMEOUT_MS,
        requestTimeout: requestTimeoutMs,
        throwOnRequestTimeout: true,
      },
    };
  }

  of(awsAccount: string, region: string): ECRClient {
    const key = `${awsAccount} ${region}`;
    const made = this.#clients.get(key);
    if (made) return made;
    const settings = { ...this.#settings, region };
    const credentials = this.#role && roleCredentials(this.#role, awsAccount, settings);
    const client = new ECRClient({ ...settings, credentials });
    this.#clients.set(key, client);
    return client;
  }
}

/** What it gives is called by the SDK, and called again when its credentials have expired. */
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
      const which = externalId === undefined ? "" : " with the external id of BLACKTREE_ECR_EXTERNAL_ID";
      throw ecrAuthFailure(`the role ${RoleArn} cannot be assumed${which}`, error);
    });
    return {
      accessKeyId: Credentials?.AccessKeyId ?? "",
      secretAccessKey: Credentials?.SecretAccessKey ?? "",
      sessionToken: Credentials?.SessionToken,
      expiration: Credentials?.Expiration,
    };
  };
}

/** The part of AWS that a region belongs to, as ARNs name it: accounts and roles of one are unknown in the others. */
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
