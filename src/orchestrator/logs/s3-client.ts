import { S3Client } from "@aws-sdk/client-s3";
import { findAwsCredentials } from "../../shared/aws/credentials.ts";
import { awsRequestHandler } from "../../shared/aws/request-handler.ts";

/**
 * Finds its region, endpoint and credentials as every program of AWS does: environment, profiles, roles. Bodies need no
 * checksums besides the SHA-256 that each signature contains, and some servers refuse them.
 */
export function createS3Client(requestTimeoutMs: number): S3Client {
  const client: S3Client = new S3Client({
    maxAttempts: 3,
    requestHandler: awsRequestHandler(requestTimeoutMs),
    credentials: async () => findAwsCredentials(await client.config.region()),
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    // `fetch` does not wait for the answer to this header.
    expectContinueHeader: false,
  });
  const { endpointProvider } = client.config;
  // Only AWS has a host name for each bucket.
  client.config.endpointProvider = (parameters, context) =>
    endpointProvider({ ...parameters, ForcePathStyle: parameters.Endpoint !== undefined }, context);
  return client;
}
