import type { AwsAnswer, AwsState } from "./aws.ts";
import type { AwsKey } from "./aws-signature.ts";

type Input = Record<string, unknown>;

function assumeRole(state: AwsState, input: Input, caller: AwsKey): AwsAnswer {
  const roleArn = String(input.RoleArn);
  const sessionName = String(input.RoleSessionName);
  const [, partition, account, role] = /^arn:(aws[a-z-]*):iam::(\d+):role\/(.+)$/.exec(roleArn) ?? [];
  if (!account || !role) return { error: "ValidationError", message: `${roleArn} is invalid`, status: 400 };
  const { deniedRoles, externalIds } = state.behaviour;
  const askedId = externalIds[roleArn];
  if (deniedRoles.includes(roleArn) || (askedId !== undefined && askedId !== input.ExternalId)) {
    const message = `User: ${caller.arn} is not authorized to perform: sts:AssumeRole on resource: ${roleArn}`;
    return { error: "AccessDenied", message, status: 403 };
  }
  const expiresAtMs = Date.now() + state.behaviour.sessionLifetimeMs;
  const key: AwsKey = {
    accessKeyId: `ASIA${crypto.randomUUID().replaceAll("-", "").slice(0, 16).toUpperCase()}`,
    secretAccessKey: crypto.randomUUID(),
    sessionToken: `session-${crypto.randomUUID()}`,
    expiresAtMs,
    account,
    arn: `arn:${partition}:sts::${account}:assumed-role/${role}/${sessionName}`,
  };
  state.keys.set(key.accessKeyId, key);
  return {
    ok: {
      Credentials: {
        AccessKeyId: key.accessKeyId,
        SecretAccessKey: key.secretAccessKey,
        SessionToken: key.sessionToken,
        Expiration: new Date(expiresAtMs).toISOString(),
      },
      AssumedRoleUser: { AssumedRoleId: `AROATEST:${sessionName}`, Arn: key.arn },
    },
  };
}

function getCallerIdentity(key: AwsKey): AwsAnswer {
  return { ok: { Arn: key.arn, UserId: key.accessKeyId, Account: key.account } };
}

export function stsAnswer(state: AwsState, action: string, input: Input, key: AwsKey): AwsAnswer {
  if (action === "AssumeRole") return assumeRole(state, input, key);
  if (action === "GetCallerIdentity") return getCallerIdentity(key);
  return {
    error: "InvalidAction",
    message: `Could not find operation ${action} for version 2011-06-15`,
    status: 400,
  };
}
