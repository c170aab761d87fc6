import { expect, test } from "bun:test";
import { proxyVariables, unifyProxyVariables } from "../../../src/shared/proxies.ts";

const LOOPBACK = "localhost,127.0.0.1,::1,[::1]";
const unified = (given: Record<string, string | undefined>) => {
  const environment = { ...given };
  unifyProxyVariables(environment);
  return environment;
};

test.each(["https_proxy", "HTTPS_PROXY"])("%s counts in both cases, and loopback needs none", (name) => {
  expect(unified({ [name]: "http://p:1" })).toEqual({
    https_proxy: "http://p:1",
    HTTPS_PROXY: "http://p:1",
    no_proxy: LOOPBACK,
    NO_PROXY: LOOPBACK,
  });
});

test("of two cases the lower one counts, as curl reads them; an empty value is none", () => {
  const environment = unified({ http_proxy: "http://low:1", HTTP_PROXY: "http://cap:1", HTTPS_PROXY: "" });
  expect(environment).toMatchObject({ http_proxy: "http://low:1", HTTP_PROXY: "http://low:1" });
  expect(environment).not.toHaveProperty("https_proxy");
});

test("exceptions stay", () => {
  expect(unified({ http_proxy: "http://p:1", NO_PROXY: ".intern,10.0.0.0/8" }).no_proxy).toBe(
    `.intern,10.0.0.0/8,${LOOPBACK}`,
  );
});

test("ALL_PROXY is for all schemes without their own, if it is an HTTP proxy", () => {
  const http = unified({ ALL_PROXY: "http://all:1", https_proxy: "http://p:1" });
  expect(http).toMatchObject({
    HTTP_PROXY: "http://all:1",
    HTTPS_PROXY: "http://p:1",
    all_proxy: "http://all:1",
  });
  const socks = unified({ ALL_PROXY: "socks5://all:1" });
  expect(socks).toMatchObject({ all_proxy: "socks5://all:1", no_proxy: LOOPBACK });
  expect(proxyVariables(socks)).toEqual({});
});

test("without proxies nothing is set", () => {
  expect(unified({ PATH: "/bin", NO_PROXY: "a" })).toEqual({ PATH: "/bin", NO_PROXY: "a" });
});
