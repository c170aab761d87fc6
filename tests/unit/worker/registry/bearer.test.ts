import { expect, test } from "bun:test";
import { tokenUrlOf } from "../../../../src/worker/registry/bearer.ts";

const refusal = (challenge: string, status = 401) =>
  new Response(null, { status, headers: { "WWW-Authenticate": challenge } });
const origin = "https://registry.example";

test("the token's URL has the parameters of the challenge", () => {
  const challenge =
    'Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull"';
  expect(tokenUrlOf(refusal(challenge), origin)?.href).toBe(
    "https://auth.example/token?service=registry&scope=repository%3Aa%2Fb%3Apull",
  );
  const withQuery = 'bearer realm="https://auth.example/token?account=x"';
  expect(tokenUrlOf(refusal(withQuery), origin)?.href).toBe("https://auth.example/token?account=x");
});

test.each([
  ["another scheme", 'Basic realm="https://registry.example/"', 401],
  ["no valid URL", 'Bearer realm="token"', 401],
  ["a URL without TLS", 'Bearer realm="http://auth.example/token"', 401],
  ["a missing permission", 'Bearer realm="https://auth.example/token"', 403],
])("does not request a token after %s", (_, challenge, status) => {
  expect(tokenUrlOf(refusal(challenge, status), origin)).toBeUndefined();
});

test("a registry without TLS may have a token server without TLS", () => {
  const challenge = 'Bearer realm="http://127.0.0.1:5001/token"';
  expect(tokenUrlOf(refusal(challenge), "http://127.0.0.1:5000")?.host).toBe("127.0.0.1:5001");
});
