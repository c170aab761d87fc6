import { StepFailure } from "../../job/failure.ts";

const CREDENTIALS_REFUSED =
  /AccessDenied|UnrecognizedClient|InvalidClientTokenId|SignatureDoesNotMatch|InvalidSignature|ExpiredToken|IncompleteSignature|MissingAuthenticationToken|NotAuthorized|OptInRequired|CredentialsProviderError|InvalidAccessKey/;

/** The failure for a refused or failed request to ECR or STS. Temporary errors are retryable. */
export function ecrAuthFailure(what: string, error: unknown): StepFailure {
  const name = error instanceof Error ? error.name : "";
  const details = error instanceof Error ? error.message || error.name : String(error);
  const status = httpStatus(error);
  const refused = CREDENTIALS_REFUSED.test(name) || (status !== undefined && status >= 400 && status < 500);
  const throttled = status === 429 || /Throttl|TooManyRequests/.test(name);
  return new StepFailure({
    code: "ECR_AUTH",
    step: "authenticate",
    message: `${what}: ${name === "" || details.includes(name) ? details : `${name}: ${details}`}`,
    retryable: throttled || !refused,
    cause: error,
  });
}

function httpStatus(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("$metadata" in error)) return undefined;
  return (error.$metadata as { httpStatusCode?: number }).httpStatusCode;
}
