/** Answers that tests cannot get from a local server. Those of a real one: tests/integration/orchestrator/logs/. */
import { expect, test } from "bun:test";
import { S3ServiceException } from "@aws-sdk/client-s3";
import { LogStoreUnavailable } from "../../../../src/orchestrator/logs/log-store.ts";
import { s3Failure } from "../../../../src/orchestrator/logs/s3-failure.ts";

function answer(name: string, status: number, headers: Record<string, string> = {}): Error {
  const error = new S3ServiceException({
    name,
    message: `text of ${name}`,
    $fault: "client",
    $metadata: { httpStatusCode: status },
  });
  return Object.assign(error, { $response: { statusCode: status, headers } });
}

const requestError = (code: string) =>
  Object.assign(new TypeError("failed"), { code, path: "https://s3.example.com/logs/acme/1?x-id=GetObject" });

test.each<[string, Error, string]>([
  [
    "a bucket of another region",
    answer("PermanentRedirect", 301, { "x-amz-bucket-region": "eu-west-1" }),
    "the bucket logs is in the region eu-west-1; set AWS_REGION=eu-west-1",
  ],
  [
    "a bucket of an unnamed region",
    answer("IllegalLocationConstraintException", 400),
    "the bucket logs is in another region (text of IllegalLocationConstraintException); set AWS_REGION to its region",
  ],
  [
    "a wrong clock",
    answer("RequestTimeTooSkewed", 403),
    "the clock of this host differs too much from the server's; synchronize it",
  ],
  [
    "an expired session",
    answer("ExpiredToken", 400),
    "the server refuses the credentials (ExpiredToken); check which ones are used, and that they are valid",
  ],
  [
    "a refusal without a name",
    answer("Unknown", 403),
    "access denied; allow s3:PutObject for the bucket logs and its objects",
  ],
  ["throttling", answer("SlowDown", 503), "the server is overloaded or not ready (SlowDown)"],
  ["a full disk of the server", answer("QuotaExceeded", 507), "text of QuotaExceeded"],
  [
    "a page of a proxy",
    answer("SyntaxError", 200),
    "the answer (HTTP 200) is not one of AWS: a proxy or another server has sent it",
  ],
  [
    "a broken connection",
    requestError("ECONNRESET"),
    "no connection to https://s3.example.com (ECONNRESET); check the server, the network, and AWS_ENDPOINT_URL_S3",
  ],
  [
    "an expired certificate",
    requestError("CERT_HAS_EXPIRED"),
    "the certificate of https://s3.example.com is not trusted (CERT_HAS_EXPIRED); if a private CA has signed it, set NODE_EXTRA_CA_CERTS to the CA's PEM file",
  ],
  [
    "an error of the local file",
    Object.assign(new Error("EIO: i/o error, read"), { code: "EIO", path: "/var/lib/journal" }),
    "EIO: i/o error, read",
  ],
])("%s", (_, error, reason) => {
  const failure = s3Failure({ bucket: "logs", prefix: "ci" }, "s3:PutObject", error);
  expect(failure).toBeInstanceOf(LogStoreUnavailable);
  expect(failure.message).toBe(`log store s3://logs/ci: ${reason}`);
  expect(failure.cause).toBe(error);
});
