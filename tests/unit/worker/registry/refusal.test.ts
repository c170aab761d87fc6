import { describe, expect, test } from "bun:test";
import { registryRefusal } from "../../../../src/worker/registry/refusal.ts";

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
