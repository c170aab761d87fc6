import { expect, test } from "bun:test";
import { ecrRegistryHost } from "../../../../../src/worker/registry/ecr/authenticator.ts";

test.each([
  ["https://123456789012.dkr.ecr.us-east-1.amazonaws.com", "1234567890.dkr.ecr.us-east-1.amazonaws.com"],
  [
    "https://123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
    "1234567890.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
  ],
  [
    "https://123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
    "1234567890.dkr.ecr.cn-north-1.amazonaws.com.cn",
  ],
  ["https://123456789012.dkr-ecr.us-west-2.on.aws", "1234567890.dkr-ecr.us-west-2.on.aws"],
  ["http://127.0.0.1:4510", "127.0.0.1:4510"],
  ["https://mirror.example.com:5443/", "mirror.example.com:5443"],
  ["https://123456789012.dkr.ecr.us-east-1.localhost:4566", "123456789012.dkr.ecr.us-east-1.localhost:4566"],
])("the host for %s is %s", (proxyEndpoint, host) => {
  const scheme = proxyEndpoint.split(":")[0];
  expect(ecrRegistryHost(proxyEndpoint, "1234567890")).toEqual({ host, origin: `${scheme}://${host}` });
});
