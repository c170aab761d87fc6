/** Errors that the AWS SDK throws. */

const CREDENTIALS_REFUSED =
  /AccessDenied|UnrecognizedClient|InvalidClientTokenId|SignatureDoesNotMatch|InvalidSignature|ExpiredToken|IncompleteSignature|MissingAuthenticationToken|NotAuthorized|OptInRequired|CredentialsProviderError|InvalidAccessKey/;

/** As the SDK names an answer without an error code of AWS, such as a page of a proxy or of a hotel's network. */
const NOT_OF_AWS = /^(SyntaxError|Unknown|UnknownError)$/;
const CLOCK_DIFFERS =
  /Signature (expired|not yet current)|RequestTimeTooSkewed|RequestExpired|RequestInTheFuture/;

/** The same request may succeed later. */
export function isTemporary(error: unknown): boolean {
  const name = error instanceof Error ? error.name : "";
  const status = httpStatus(error);
  const refused = CREDENTIALS_REFUSED.test(name) || (status !== undefined && status >= 400 && status < 500);
  return status === 429 || /Throttl|TooManyRequests/.test(name) || !refused;
}

export function describeAwsError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { name, message } = error;
  const status = httpStatus(error);
  if (status === 407) return "the proxy refuses the request (HTTP 407): check its user and password";
  if (NOT_OF_AWS.test(name))
    return `the answer${status === undefined ? "" : ` (HTTP ${status})`} is not one of AWS: a proxy or another server has sent it`;
  const details = message || name;
  const hint = CLOCK_DIFFERS.test(`${name} ${details}`) ? "; check the clock of this host" : "";
  return `${name === "Error" || details.includes(name) ? details : `${name}: ${details}`}${hint}`;
}

function httpStatus(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("$metadata" in error)) return undefined;
  return (error.$metadata as { httpStatusCode?: number }).httpStatusCode;
}
