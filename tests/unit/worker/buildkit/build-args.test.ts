import { expect, test } from "bun:test";
import {
  type ArgumentTransport,
  argumentTransport,
  buildArguments,
} from "../../../../src/worker/buildkit/build-args.ts";

const ENVIRONMENT: ArgumentTransport = { kind: "environment", because: "it has no buildx" };
const NO_SEPARATION = { mounts: "m" };
const SEPARATION = { mounts: "m", steps: "s" };

test.each([
  ["buildx", { extraHosts: false }, undefined, NO_SEPARATION, "bake-file"],
  ["no buildx", undefined, undefined, NO_SEPARATION, "environment"],
  ["a control group", { extraHosts: true }, "/builds", NO_SEPARATION, "environment"],
  ["steps that are not shared", { extraHosts: false }, undefined, SEPARATION, "environment"],
  ["steps that are not shared, and a newer buildx", { extraHosts: true }, undefined, SEPARATION, "bake-file"],
] as const)("with %s", (_, bake, cgroupParent, cacheScope, kind) => {
  expect(argumentTransport({ bake, cgroupParent, cacheScope }).kind).toBe(kind);
});

test("nothing of a bake file's values reaches docker's client in another way", () => {
  const nothing = { args: [], environment: {}, proxies: {} };
  expect(buildArguments({ PATH: "/bin", http_proxy: "a", HTTP_PROXY: "b" }, { kind: "bake-file" })).toEqual(
    nothing,
  );
});

test("a value is passed in the environment, so that no argument list shows it", () => {
  expect(buildArguments({ API_KEY: "the value", EMPTY: "", "a.b": "c" }, ENVIRONMENT)).toEqual({
    args: ["--build-arg=API_KEY", "--build-arg=EMPTY", "--build-arg=a.b"],
    environment: { API_KEY: "the value", EMPTY: "", "a.b": "c" },
    proxies: {},
  });
});

test.each([
  ...[
    "AWS_SECRET_ACCESS_KEY",
    "GIT_SHA",
    "GOPROXY",
    "DOCKER_VERSION",
    "SSH_KEY",
    "LANG",
    "USER",
    "BUILDKIT_SYNTAX",
  ],
  ...["a.b", "my-arg", "1x", "SOURCE_DATE_EPOCH"],
])("%s does not affect docker", (name) => {
  expect(buildArguments({ [name]: "value" }, ENVIRONMENT).environment).toEqual({ [name]: "value" });
});

test.each([
  ...[
    "PATH",
    "HOME",
    "LD_PRELOAD",
    "DOCKER_HOST",
    "GODEBUG",
    "SSL_CERT_FILE",
    "BUILDX_CONFIG",
    "DEBUG",
    "NO_COLOR",
  ],
  ...["GIT_CONFIG_COUNT", "GIT_SSH_COMMAND", "OTEL_EXPORTER_OTLP_ENDPOINT", "BUILDKIT_HOST", "TRACEPARENT"],
])("%s would affect docker itself, and is refused without showing its value", (name) => {
  const pass = () => buildArguments({ FIRST: "x", [name]: "hidden" }, ENVIRONMENT);
  expect(pass).toThrow(
    `the build argument ${name} would affect docker itself, and it has no buildx; rename it`,
  );
  expect(pass).not.toThrow("hidden");
});

test("a proxy is passed in docker's configuration, which has one value for both spellings", () => {
  const proxy = "http://user:word@proxy:3128";
  expect(buildArguments({ https_proxy: proxy, HTTPS_PROXY: proxy, NO_PROXY: "intern" }, ENVIRONMENT)).toEqual(
    {
      args: [],
      environment: {},
      proxies: { httpsProxy: proxy, noProxy: "intern" },
    },
  );
  const pass = () => buildArguments({ https_proxy: proxy, HTTPS_PROXY: "http://other" }, ENVIRONMENT);
  expect(pass).toThrow("different values");
});
