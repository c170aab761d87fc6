/**
 * AWS credentials, from where the SDK looks for them: environment, profiles, web identity, container, instance. The SDK
 * reports only that it has found none; here the failure names the source, the reason and the remedy.
 */
import { STSClient, type STSClientConfig } from "@aws-sdk/client-sts";
import { type Environment, environment } from "../env.ts";
import { describeAwsError, isTemporary } from "./errors.ts";
import { awsRequestHandler } from "./request-handler.ts";

export type AwsCredentials = Awaited<ReturnType<Extract<STSClientConfig["credentials"], () => unknown>>>;

/** The SDK waits without limit for the program of a profile. */
const TIMEOUT_MS = 60_000;

interface Source {
  readonly name: string;
  readonly remedy: string;
  /** A server or program, which may have an answer the next time. */
  readonly isService: boolean;
}

/** In the order of the SDK, which decides by these variables too. */
function sourceOf(variables: Environment = environment()): Source {
  const { AWS_PROFILE: profile, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY } = variables;
  if (profile) {
    const remedy = `run aws sso login --profile ${profile} if it uses single sign-on, else correct it, or name another one in AWS_PROFILE`;
    return { name: `the profile "${profile}"`, remedy, isService: false };
  }
  if (AWS_ACCESS_KEY_ID && AWS_SECRET_ACCESS_KEY) {
    const name = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
    return { name, remedy: "set them to the values that AWS shows", isService: false };
  }
  const { AWS_WEB_IDENTITY_TOKEN_FILE: token, AWS_ROLE_ARN: role } = variables;
  if (token && role) {
    const remedy = "check the file, the trust policy of the role, and the endpoint of STS";
    return { name: `the web identity in ${token} for the role ${role}`, remedy, isService: true };
  }
  if (variables.AWS_CONTAINER_CREDENTIALS_RELATIVE_URI || variables.AWS_CONTAINER_CREDENTIALS_FULL_URI) {
    const remedy = "check the role of the task or pod";
    return { name: "the container's credentials endpoint", remedy, isService: true };
  }
  const remedy =
    "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run on an instance with a role";
  return { name: 'the profile "default" or the role of this instance', remedy, isService: true };
}

/** The message names the source, the reason and the remedy. */
export class NoAwsCredentials extends Error {
  override readonly name = "NoAwsCredentials";

  constructor(
    message: string,
    /** The source may have credentials later. */
    readonly mayPass: boolean,
    cause: unknown,
  ) {
    super(message, { cause });
  }
}

/** @throws NoAwsCredentials */
export async function findAwsCredentials(region: string, timeoutMs = TIMEOUT_MS): Promise<AwsCredentials> {
  const notes: string[] = [];
  const note = (message: unknown) => void notes.push(String(message));
  const ignore = () => undefined;
  const logger = { trace: ignore, debug: note, info: ignore, warn: ignore, error: ignore };
  // Else profiles would remain as they were when they were read first, until the program starts again.
  const profiles = { ignoreCache: true };
  const client = new STSClient({ region, requestHandler: awsRequestHandler(timeoutMs), logger, ...profiles });
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new TimedOut(`no answer within ${timeoutMs / 1000} s`)), timeoutMs);
  try {
    const credentials = await Promise.race([client.config.credentials(), late]);
    checkCharacters(credentials);
    return credentials;
  } catch (error) {
    throw credentialsFailure(error, notes);
  } finally {
    clearTimeout(timer);
    client.destroy();
  }
}

/** Such as `profile "builder", key …3F7Q`. */
export function describeAwsCredentials({ accessKeyId }: AwsCredentials): string {
  return `${sourceOf().name}, key …${accessKeyId.slice(-4)}`;
}

class TimedOut extends Error {
  override readonly name = "TimedOut";
}

class Unusable extends Error {
  override readonly name = "Unusable";
}

/** The SDK would only report that a header is invalid, or AWS that the signature is. */
function checkCharacters({ accessKeyId, secretAccessKey, sessionToken = "x" }: AwsCredentials): void {
  for (const [what, value] of [
    ["access key id", accessKeyId],
    ["secret access key", secretAccessKey],
    ["session token", sessionToken],
  ] as const)
    if (!/^[\x21-\x7e]+$/.test(value))
      throw new Unusable(
        `the ${what} is empty, or contains a space, a line break or another character that no key has`,
      );
}

function credentialsFailure(error: unknown, notes: readonly string[]): NoAwsCredentials {
  const source = sourceOf();
  const reason = reasonOf(error, notes, source);
  const mayPass = source.isService || reason === PROGRAM_FAILED || isTemporary(error);
  return new NoAwsCredentials(
    `no AWS credentials from ${source.name}: ${reason}; ${source.remedy}`,
    mayPass && !(error instanceof Unusable),
    error,
  );
}

const PROGRAM_FAILED = "its credential_process failed";

/** The text of a failed program is not shown: it contains the command, and what it has printed. */
const KNOWN_NOTES: readonly (readonly [pattern: RegExp, reason: string])[] = [
  [/Command failed: /, PROGRAM_FAILED],
  [/credential_process returned (invalid JSON|expired credentials)/, "its credential_process returned $1"],
  [
    /credential_process (?:did not return|returned invalid credentials)/,
    "its credential_process returned no credentials",
  ],
  [/Could not resolve credentials using profile/, "it does not exist, or has no credentials"],
];

function reasonOf(error: unknown, notes: readonly string[], { isService }: Source): string {
  if (error instanceof Unusable || error instanceof TimedOut) return error.message;
  const isNamed = !(
    error instanceof Error && /Could not load credentials from any providers/.test(error.message)
  );
  if (isNamed) return isService ? `no usable answer (${describeAwsError(error)})` : describeAwsError(error);
  if (isService) return "there are none";
  for (const [pattern, reason] of KNOWN_NOTES) {
    const [found, detail = ""] =
      notes.map((text) => pattern.exec(text)).find((match) => match !== null) ?? [];
    if (found !== undefined) return reason.replace("$1", detail);
  }
  return "there are none";
}
