import { expect, test } from "bun:test";
import { buildArguments } from "../../../../src/worker/pipeline/build-arguments.ts";

test("a value goes by the environment, so that no argument list shows it", () => {
  expect(buildArguments({ API_KEY: "the value", EMPTY: "" })).toEqual({
    args: ["--build-arg=API_KEY", "--build-arg=EMPTY"],
    environment: { API_KEY: "the value", EMPTY: "" },
  });
});

test.each([
  "PATH",
  "LD_PRELOAD",
  "DOCKER_HOST",
  "HTTPS_PROXY",
  "https_proxy",
  "GODEBUG",
  "SSL_CERT_FILE",
  "a.b",
])("%s would mean something to docker itself, and stays out of its environment", (name) => {
  expect(buildArguments({ [name]: "value" })).toEqual({
    args: [`--build-arg=${name}=value`],
    environment: {},
  });
});
