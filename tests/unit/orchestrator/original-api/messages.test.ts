import { describe, expect, test } from "bun:test";
import { answerOf, jobMessageOf } from "../../../../src/orchestrator/original-api/messages.ts";
import { sampleResult } from "../../../integration/orchestrator/sample-result.ts";

const TARGET = { awsAccount: "123456789012", ecrRepo: "blacktree" };
const ID = "6f1c2c1e-7d0b-4a52-a5b5-0f3ce2f1b8a4";
const REQUEST = {
  deploymentId: ID,
  token: "gho_token",
  repository: "owner/name",
  branch: "main",
  dockerFilePath: "Dockerfile",
  contextDir: ".",
  createdAt: "2025-08-01T10:00:00.000Z",
};

const translated = (request: object) => jobMessageOf(Buffer.from(JSON.stringify(request)), TARGET);
const jobOf = (request: object) => JSON.parse(translated(request).body.toString());

describe("a request", () => {
  test("becomes a job message", () => {
    expect(jobOf(REQUEST)).toEqual({
      repo_url: "owner/name",
      branch: "main",
      deployment_version: ID,
      aws_account: "123456789012",
      ecr_repo: "blacktree",
      context: ".",
      dockerfile: "Dockerfile",
      git_token: "gho_token",
    });
    expect(translated(REQUEST).correlationId).toBe(ID);
  });

  test("may have names in any case", () => {
    const upper = Object.fromEntries(
      Object.entries(REQUEST).map(([name, value]) => [name.toUpperCase(), value]),
    );
    expect(jobOf(upper)).toEqual(jobOf(REQUEST));
    expect(jobOf({ ...REQUEST, dockerFilePath: undefined, dockerfilePath: "Dockerfile" })).toEqual(
      jobOf(REQUEST),
    );
  });

  test.each([
    [".", "Dockerfile", ".", "Dockerfile"],
    ["./", "./Dockerfile", ".", "Dockerfile"],
    ["/", "/Dockerfile", ".", "Dockerfile"],
    ["", "Dockerfile", ".", "Dockerfile"],
    ["./apps/api/", "docker/Dockerfile", "apps/api", "apps/api/docker/Dockerfile"],
    ["/apps/api", "Dockerfile", "apps/api", "apps/api/Dockerfile"],
    ["apps/api", "../Dockerfile", "apps/api", "apps/Dockerfile"],
    ["apps/api", "../../../x", "apps/api", "../x"],
    ["apps", "", "apps", ""],
  ])("with contextDir %p and dockerFilePath %p", (contextDir, dockerFilePath, context, dockerfile) => {
    expect(jobOf({ ...REQUEST, contextDir, dockerFilePath })).toMatchObject({ context, dockerfile });
  });

  test.each(["", null, undefined])("without a token (%p)", (token) => {
    expect(jobOf({ ...REQUEST, token })).not.toHaveProperty("git_token");
  });

  test("that comes twice is one job, and with another time it is another one", () => {
    const later = { ...REQUEST, createdAt: "2025-08-01T10:00:01.000Z" };
    expect(translated({ ...REQUEST }).messageId).toBe(translated(REQUEST).messageId);
    expect(translated(later).messageId).not.toBe(translated(REQUEST).messageId);
    expect(translated(REQUEST).messageId).toStartWith(`${ID}.`);
  });

  test("has an id that does not depend on the token", () => {
    expect(translated({ ...REQUEST, token: "other" }).messageId).toBe(translated(REQUEST).messageId);
  });

  test.each(["no JSON", "[]", "null", "7"])("stays as it is if it is %p", (text) => {
    const body = Buffer.from(text);
    expect(jobMessageOf(body, TARGET)).toEqual({ body, messageId: undefined, correlationId: undefined });
  });
});

describe("an answer", () => {
  const resultOf = (changes: object) => Buffer.from(JSON.stringify({ ...sampleResult("j"), ...changes }));

  test("to a build that succeeded", () => {
    const result = resultOf({
      status: "SUCCESS",
      image_url: "host/blacktree:v",
      logs: ["a", "b"],
      error: null,
    });
    expect(answerOf(result, ID)).toEqual({
      deploymentId: ID,
      imageUrl: "host/blacktree:v",
      success: true,
      logs: "a\nb",
      error: "",
    });
  });

  test.each(["FAILED", "CANCELLED"])("to a build that is %s", (status) => {
    const error = { code: "BUILD_FAILED", message: "step 2 failed", step: "build", retryable: false };
    expect(answerOf(resultOf({ status, image_url: null, logs: [], error }), ID)).toEqual({
      deploymentId: ID,
      imageUrl: "",
      success: false,
      logs: "",
      error: "BUILD_FAILED: step 2 failed",
    });
  });

  test("names the version if the result has no correlation id", () => {
    expect(answerOf(resultOf({ deployment_version: "v7" }), undefined)?.deploymentId).toBe("v7");
  });

  test.each(["no JSON", "[]", "null", "{}", '{"status":"SUCCESS"}'])("is not made from %p", (text) => {
    expect(answerOf(Buffer.from(text), ID)).toBeUndefined();
  });
});
