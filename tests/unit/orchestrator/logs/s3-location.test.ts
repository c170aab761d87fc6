import { describe, expect, test } from "bun:test";
import { formatS3Location, objectKey, s3Location } from "../../../../src/orchestrator/logs/s3-location.ts";

describe("the URL of a bucket", () => {
  test.each([
    ["s3://logs", "logs", ""],
    ["s3://logs/", "logs", ""],
    ["s3://my.logs-1/ci", "my.logs-1", "ci"],
    ["s3://logs/ci/env=prod/v1.2_x/", "logs", "ci/env=prod/v1.2_x"],
    [`s3://${"b".repeat(63)}/${"p".repeat(512)}`, "b".repeat(63), "p".repeat(512)],
  ])("%s is accepted", (url, bucket, prefix) => {
    const location = s3Location(url);
    expect(location).toEqual({ bucket, prefix });
    expect(formatS3Location(location)).toBe(url.replace(/\/$/, ""));
  });

  test.each([
    ["logs", "is not the URL of a bucket"],
    ["/var/lib/logs", "is not the URL of a bucket"],
    ["https://logs.s3.amazonaws.com", "is not the URL of a bucket"],
    ["S3://logs", "is not the URL of a bucket"],
    ["gs://logs", "is not the URL of a bucket"],
    ["s3:logs", "is not the URL of a bucket"],
    ["s3://", "has no bucket"],
    ["s3:///prefix", "has no bucket"],
    ["s3://key:secret@logs", "contains a login"],
    ["s3://key@logs/prefix", "contains a login"],
    ["s3://key:sec/ret@logs/prefix", "contains a login"],
    ["s3://logs?region=eu-west-1", "has a query or fragment"],
    ["s3://logs/prefix#x", "has a query or fragment"],
    ["s3://localhost:9000/logs", "has a port or an ARN"],
    ["s3://arn:aws:s3:::logs", "has a port or an ARN"],
    ["s3://Logs", "has an invalid bucket name"],
    ["s3://my_logs", "has an invalid bucket name"],
    ["s3://lo", "has an invalid bucket name"],
    ["s3://-logs", "has an invalid bucket name"],
    ["s3://my..logs", "has an invalid bucket name"],
    [`s3://${"b".repeat(64)}`, "has an invalid bucket name"],
    ["s3://logs//", "has an invalid prefix"],
    ["s3://logs//ci", "has an invalid prefix"],
    ["s3://logs/ci//x", "has an invalid prefix"],
    ["s3://logs/../other", "has an invalid prefix"],
    ["s3://logs/ci/.", "has an invalid prefix"],
    ["s3://logs/build logs", "has an invalid prefix"],
    ["s3://logs/%2E", "has an invalid prefix"],
    ["s3://logs/é", "has an invalid prefix"],
    ["s3://logs/ci\n", "is not the URL of a bucket"],
    [`s3://logs/${"p".repeat(513)}`, "has an invalid prefix"],
  ])("%j is refused", (url, wrong) => {
    expect(() => s3Location(url)).toThrow(wrong);
  });
});

describe("the key of a log", () => {
  test.each([
    ["", "acme", "job-1", 2, "acme/job-1/2.ndjson"],
    ["ci/logs", "acme", "a:b", 1, "ci/logs/acme/a:b/1.ndjson"],
    ["", ".", "..", 1, "%2E/%2E%2E/1.ndjson"],
    ["", "...", ".a", 1, ".../.a/1.ndjson"],
  ])("with the prefix %j, tenant %j and job %j", (prefix, tenant, jobId, attempt, key) => {
    expect(objectKey({ bucket: "logs", prefix }, { tenant, jobId, attempt })).toBe(key);
  });

  test("the longest one has at most 1024 bytes", () => {
    const location = { bucket: "logs", prefix: "p".repeat(512) };
    const key = { tenant: "t".repeat(64), jobId: "j".repeat(200), attempt: Number.MAX_SAFE_INTEGER };
    expect(Buffer.byteLength(objectKey(location, key))).toBeLessThanOrEqual(1024);
  });
});
