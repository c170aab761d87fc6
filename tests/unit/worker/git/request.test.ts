import { describe, expect, test } from "bun:test";
import { proxyFor } from "../../../../src/worker/git/request.ts";

const https = new URL("https:/git.example.com/x");
const http = new URL("http:/git.example.com/x");

describe("a request's proxy", () => {
  test("is the one for its scheme, else ALL_PROXY", () => {
    const environment = { HTTPS_PROXY: "http://s", http_proxy: "http://h", ALL_PROXY: "http://a" };
    expect(proxyFor(https, environment)).toBe("http://s");
    expect(proxyFor(http, environment)).toBe("http://h");
    expect(proxyFor(https, { all_proxy: "http://a" })).toBe("http://a");
    expect(proxyFor(https, {})).toBeUndefined();
  });

  test("is not read from HTTP_PROXY in capitals", () => {
    expect(proxyFor(http, { HTTP_PROXY: "http://h" })).toBeUndefined();
  });

  test.each(["git.example.com", "example.com", ".example.com", "other, example.com", "*"])(
    "is not used with NO_PROXY=%s",
    (without) => {
      expect(proxyFor(https, { HTTPS_PROXY: "http://s", NO_PROXY: without })).toBeUndefined();
    },
  );

  test.each(["", "ample.com", "git.example.com.evil"])("is used with NO_PROXY=%s", (without) => {
    expect(proxyFor(https, { HTTPS_PROXY: "http://s", NO_PROXY: without })).toBe("http://s");
  });
});
