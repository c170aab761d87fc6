import { expect, test } from "bun:test";
import { buildArguments } from "../../../../src/worker/buildkit/build-args.ts";

test("a value is passed in the environment, so that no argument list shows it", () => {
  expect(buildArguments({ API_KEY: "the value", EMPTY: "" })).toEqual({
    args: ["--build-arg=API_KEY", "--build-arg=EMPTY"],
    environment: { API_KEY: "the value", EMPTY: "" },
    proxies: {},
  });
});

test.each([
  "AWS_SECRET_ACCESS_KEY",
  "GITHUB_TOKEN",
  "GIT_SHA",
  "GOPROXY",
  "DOCKER_VERSION",
  "SSH_KEY",
  "LANG",
  "USER",
])("%s does not affect docker", (name) => {
  expect(buildArguments({ [name]: "value" }).environment).toEqual({ [name]: "value" });
});

test.each([
  ...["PATH", "HOME", "LD_PRELOAD", "DOCKER_HOST", "GODEBUG", "SSL_CERT_FILE", "BUILDX_CONFIG"],
  ...["GIT_CONFIG_COUNT", "GIT_SSH_COMMAND", "OTEL_EXPORTER_OTLP_ENDPOINT"],
])("%s would affect docker itself, and is refused without showing its value", (name) => {
  const pass = () => buildArguments({ FIRST: "x", [name]: "hidden" });
  expect(pass).toThrow(`the build argument ${name} would affect docker itself`);
  expect(pass).not.toThrow("hidden");
});

test("a proxy is passed in docker's configuration, which has one value for both spellings", () => {
  const proxy = "http://user:word@proxy:3128";
  expect(buildArguments({ https_proxy: proxy, HTTPS_PROXY: proxy, NO_PROXY: "intern" })).toEqual({
    args: [],
    environment: {},
    proxies: { httpsProxy: proxy, noProxy: "intern" },
  });
  expect(() => buildArguments({ https_proxy: proxy, HTTPS_PROXY: "http://other" })).toThrow(
    "different values",
  );
});
