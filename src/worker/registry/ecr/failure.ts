import { StepFailure } from "../../job/failure.ts";

const CREDENTIALS_REFUSED =
  /AccessDenied|UnrecognizedClient|InvalidClientTokenId|SignatureDoesNotMatch|InvalidSignature|ExpiredToken|IncompleteSignature|MissingAuthenticationToken|NotAuthorized|OptInRequired|CredentialsProviderError|InvalidAccessKey/;

/** What ECR or STS did not do for us, and whether it may do it later. */
export function ecrAuthFailure(what: string, error: unknown): StepFailure {
  const name = error instanceof Error ? error.name : "";
  const says = error instanceof Error ? error.message || error.name : String(error);
  const status = httpStatus(error);
  const refused = CREDENTIALS_REFUSED.test(name) || (status !== undefined && status >= 400 && status < 500);
  const throttled = status === 429 || /Throttl|TooManyRequests/.test(name);
  return new StepFailure({
    code: "ECR_AUTH",
    step: "authenticate",
    message: `${what}: ${name === "" || says.includes(name) ? says : `${name}: ${says}`}`,
    retryable: throttled || !refused,
    cause: error,
  });
}

function httpStatus(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("$metadata" in error)) return undefined;
  return (error.$metadata as { httpStatusCode?: number }).httpStatusCode;
}
