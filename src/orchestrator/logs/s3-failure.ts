/** Why a request to S3 failed, and what to do, worded for the operator. Contains no credentials. */
import { NoAwsCredentials } from "../../shared/aws/credentials.ts";
import { describeAwsError } from "../../shared/aws/errors.ts";
import { LogStoreUnavailable } from "./log-store.ts";
import { formatS3Location, type S3Location } from "./s3-location.ts";

/** The fields that errors of the SDK, of `fetch` and of Bun may have. */
interface S3Error extends Error {
  readonly code?: string;
  /** Of a failed `fetch`: the URL. */
  readonly path?: string;
  readonly $metadata?: { readonly httpStatusCode?: number };
  readonly $response?: { readonly headers?: Readonly<Record<string, string>> };
  /** Of an answer that names the region in which the bucket is. */
  readonly Region?: string;
}

const CREDENTIALS_REFUSED =
  /^(InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|ExpiredToken|TokenRefreshRequired|InvalidSecurity)$/;
const OTHER_REGION = /^(PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraintException)$/;
const OVERLOADED = /^(SlowDown|ServiceUnavailable|TooManyRequests|ThrottlingException|Throttling)$/;
const NO_REGION = /^Region is missing|^Region not accepted/;
const CERTIFICATE = /CERT|UNABLE_TO_VERIFY/;

/** `actions`: the permissions that the request needs. */
export function s3Failure(location: S3Location, actions: string, error: unknown): LogStoreUnavailable {
  const reason = error instanceof Error ? reasonOf(error, location.bucket, actions) : String(error);
  return new LogStoreUnavailable(`log store ${formatS3Location(location)}: ${reason}`, { cause: error });
}

function reasonOf(error: S3Error, bucket: string, actions: string): string {
  const { name, message, code } = error;
  const status = error.$metadata?.httpStatusCode;
  if (error instanceof NoAwsCredentials) return message;
  if (NO_REGION.test(message))
    return "no AWS region is set; set AWS_REGION to the bucket's region, or to us-east-1 for a server without regions";
  if (name === "NoSuchBucket")
    return `the bucket ${bucket} does not exist; create it, or correct BLACKTREE_LOG_STORE or AWS_ENDPOINT_URL_S3`;
  if (OTHER_REGION.test(name) || status === 301) return wrongRegion(error, bucket);
  if (name === "RequestTimeTooSkewed")
    return "the clock of this host differs too much from the server's; synchronize it";
  if (CREDENTIALS_REFUSED.test(name))
    return `the server refuses the credentials (${name}); check which ones are used, and that they are valid`;
  if (name === "AccessDenied" || status === 403)
    return `access denied; allow ${actions} for the bucket ${bucket} and its objects`;
  if (OVERLOADED.test(name) || status === 503) return `the server is overloaded or not ready (${name})`;
  if (name === "PreconditionFailed" || name === "NoSuchKey")
    return "the log was replaced or removed while it was read; read it again";
  if (name === "TimeoutError") return "the server does not answer in time; check it and the network";
  if (code === "ERR_INVALID_URL") return "AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL is not a URL; correct it";
  if (code !== undefined && URL.canParse(error.path ?? "")) return connectionFailure(error, code);
  return describeAwsError(error);
}

function wrongRegion(error: S3Error, bucket: string): string {
  const region = error.$response?.headers?.["x-amz-bucket-region"] ?? error.Region;
  if (region === undefined)
    return `the bucket ${bucket} is in another region (${error.message}); set AWS_REGION to its region`;
  return `the bucket ${bucket} is in the region ${region}; set AWS_REGION=${region}`;
}

function connectionFailure({ path = "" }: S3Error, code: string): string {
  const { origin } = new URL(path);
  if (CERTIFICATE.test(code))
    return `the certificate of ${origin} is not trusted (${code}); if a private CA has signed it, set NODE_EXTRA_CA_CERTS to the CA's PEM file`;
  if (code === "EPROTO")
    return `${origin} does not speak TLS; AWS_ENDPOINT_URL_S3 begins with http:// for a server without TLS`;
  return `no connection to ${origin} (${code}); check the server, the network, and AWS_ENDPOINT_URL_S3`;
}
