import { describe, expect, test } from "bun:test";
import { meaningOf, registryRefusal, reportedRefusal } from "../../../../src/worker/registry/refusal.ts";

const refusalOf = (status: number, code: string, message: string) =>
  registryRefusal("r", new Response(null, { status }), JSON.stringify({ errors: [{ code, message }] }), "tag")
    .failure;

describe("registryRefusal", () => {
  test.each([
    [
      400,
      "TAG_INVALID",
      "The image tag 'v1' already exists in the 'app' repository and cannot be overwritten because the tag is immutable.",
      "TAG_IMMUTABLE",
      false,
    ],
    [
      404,
      "NAME_UNKNOWN",
      "The repository with name 'immutable-app' does not exist in the registry with id '1'",
      "ECR_REPO_NOT_FOUND",
      false,
    ],
    [
      403,
      "DENIED",
      "User: arn:aws:iam::1:user/u is not authorized to perform: ecr:PutImage on resource: arn:aws:ecr:us-east-1:1:repository/immutable-app",
      "ECR_AUTH",
      false,
    ],
    [503, "UNKNOWN", "https://r/v2/immutable-app/manifests/v1 is not available", "PUSH_FAILED", true],
  ] as const)("%d %s: %s", (status, code, message, expected, retryable) => {
    expect(refusalOf(status, code, message)).toMatchObject({ code: expected, retryable, step: "tag" });
  });
});

describe("a refusal is final or may pass", () => {
  test.each([
    [400, "MANIFEST_INVALID", false],
    [400, "SIZE_INVALID", true],
    [400, "DIGEST_INVALID", true],
    [404, "BLOB_UPLOAD_UNKNOWN", true],
    [404, "MANIFEST_UNKNOWN", false],
    [405, "UNSUPPORTED", false],
    [408, "", true],
    [413, "", false],
    [415, "", false],
    [416, "", true],
    [425, "", true],
    [429, "TOOMANYREQUESTS", true],
    [500, "UNKNOWN", true],
    [501, "UNSUPPORTED", false],
    [502, "", true],
    [503, "UNAVAILABLE", true],
  ])("%d %s: retryable %p", (status, code, retryable) => {
    const refused = { code: "PUSH_FAILED", retryable };
    expect(refusalOf(status, code, "why")).toMatchObject(refused);
    const request =
      "failed to push r/immutable-401@sha256:1: unexpected status from PUT request to https://r:5000/v2/x";
    const codes = code === "" ? [] : [code];
    expect(meaningOf({ ...reportedRefusal(`${request}: ${status} Text`), codes })).toMatchObject(refused);
  });

  test.each([
    ["manifest invalid: manifest invalid", undefined, false],
    ["toomanyrequests: Rate exceeded", undefined, true],
    ["unknown: The service is temporarily unavailable", undefined, true],
    ["error parsing HTTP 413 response body: invalid character '<'", 413, false],
    ["received unexpected HTTP status: 502 Bad Gateway", 502, true],
    [
      "failed commit on ref x: unexpected status from PUT request to https://r:5000/v2/x: 405 Method Not Allowed",
      405,
      false,
    ],
    ["unexpected status from PUT request to http://r/v2/x/blobs/uploads/1: 404 Not Found", 404, true],
    [
      "failed to do request: Put http://r/v2/x: dial tcp 1.2.3.4:503: connect: connection refused",
      undefined,
      true,
    ],
  ])("%s", (error, status, retryable) => {
    const refusal = reportedRefusal(error);
    expect(refusal.status).toBe(status);
    expect(meaningOf(refusal)).toMatchObject({ code: "PUSH_FAILED", retryable });
  });

  test("an error list of another form counts as none", () => {
    const refused = (body: string) =>
      registryRefusal("r", new Response(null, { status: 500 }), body, "tag").failure;
    for (const body of ["null", '{"errors":[null]}', '{"errors":7}', "<html>"])
      expect(refused(body)).toMatchObject({ code: "PUSH_FAILED", retryable: true });
  });
});
