import { expect, test } from "bun:test";
import { createS3Client } from "../../../../src/orchestrator/logs/s3-client.ts";

test.each([
  ["AWS has a host name for each bucket", undefined, "https://build-logs.s3.eu-west-1.amazonaws.com/"],
  ["another server has a path for each", "http://minio:9000", "http://minio:9000/build-logs"],
  ["its own path comes before that", "https://example.com/s3", "https://example.com/s3/build-logs"],
])("%s", (_, Endpoint, url) => {
  const { endpointProvider } = createS3Client(1000).config;
  expect(endpointProvider({ Bucket: "build-logs", Region: "eu-west-1", Endpoint }).url.href).toBe(url);
});
