import { describe, expect, test } from "bun:test";
import { StepFailure } from "../../../../src/worker/job/failure.ts";
import { blamingLogin, FailedPull } from "../../../../src/worker/pipeline/refused-pull.ts";

const login = { username: "u", password: "hush" };
const LOGINS = new Map([
  ["ghcr.io", { host: "ghcr.io", source: "registry_auths", login }],
  ["quay.io", { host: "quay.io", source: "BLACKTREE_REGISTRY_AUTH", login: { problem: "helper failed" } }],
]);

/** The failure of a build whose log has these lines, each with the number of its step. */
function failureOf(lines: readonly string[], message: string) {
  const pull = new FailedPull();
  for (const line of lines) {
    const [stream = "", ...words] = line.split(" ");
    pull.note({ stream, prefix: `${stream} `, text: words.join(" ") });
  }
  const error = new StepFailure({ code: "BUILD_FAILED", step: "build", message, retryable: true });
  const blamed = blamingLogin(error, pull, LOGINS, "push.example.com:5000");
  return blamed instanceof StepFailure ? blamed.failure : undefined;
}

const load = (image: string) => [
  "#2 [internal] load metadata for alpine:3",
  `#3 [internal] load metadata for ${image}`,
  "#3 ERROR: x",
];
const DENIED = "failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized";

describe("the message for a base image that cannot be pulled names its registry and the remedy", () => {
  test.each([
    [
      "docker.io/acme/private:1",
      DENIED,
      /login for docker\.io to the job's registry_auths, or to BLACKTREE_REGISTRY_AUTH/,
    ],
    ["acme/private:1", "pull access denied, repository does not exist", /login for docker\.io/],
    ["localhost/base", "x: 403 Forbidden", /login for localhost/],
    ["ghcr.io/acme/base", DENIED, /^the registry ghcr\.io refused the login of registry_auths/],
    ["ghcr.io/acme/base", "ghcr.io/acme/base: not found", /^the registry ghcr\.io has no such base image/],
    ["quay.io/acme/base", DENIED, /quay\.io .*helper failed/],
    ["push.example.com:5000/base", DENIED, /^the registry push\.example\.com:5000 .*the worker's login/],
  ])("%s: %s", (image, message, expected) => {
    const failure = failureOf(load(image), message);
    expect(failure).toMatchObject({ code: "BUILD_FAILED", retryable: false });
    expect(failure?.message).toMatch(expected);
    expect(failure?.message).toEndWith(message);
    expect(failure?.message).not.toContain("hush");
  });

  test("also for a layer of it", () => {
    const lines = ["#5 [linux/arm64 1/2] FROM ghcr.io/acme/base@sha256:1", "#5 ERROR: 403"];
    expect(failureOf(lines, "failed to copy: x: 403 Forbidden")?.message).toStartWith(
      "the registry ghcr.io refused",
    );
  });
});

test.each([
  ["a network fault", load("ghcr.io/a/b"), "failed to resolve source metadata: dial tcp: i/o timeout"],
  ["a step that prints a refusal", ["#4 [2/2] RUN x", "#4 ERROR: 401 Unauthorized"], "x: 401 Unauthorized"],
  [
    "a step that fails after a refusal",
    load("ghcr.io/a/b"),
    'process "/bin/sh -c curl: 401 Unauthorized" did not complete successfully: exit code: 1',
  ],
])("%s is not blamed on a login", (_, lines, message) => {
  expect(failureOf(lines, message)).toEqual({
    code: "BUILD_FAILED",
    step: "build",
    message,
    retryable: true,
  });
});
