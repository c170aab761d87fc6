import { expect, test } from "bun:test";
import { tokenUrlOf } from "../../../../src/worker/registry/bearer.ts";

const refusal = (challenge: string, status = 401) =>
  new Response(null, { status, headers: { "WWW-Authenticate": challenge } });
const origin = "https://registry.example";

test("the token is asked for as the registry says", () => {
  const challenge =
    'Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull"';
  expect(tokenUrlOf(refusal(challenge), origin)?.href).toBe(
    "https://auth.example/token?service=registry&scope=repository%3Aa%2Fb%3Apull",
  );
  const withQuery = 'bearer realm="https://auth.example/token?account=x"';
  expect(tokenUrlOf(refusal(withQuery), origin)?.href).toBe("https://auth.example/token?account=x");
});

test.each([
  ["another kind of login", 'Basic realm="https://registry.example/"', 401],
  ["no address", 'Bearer realm="token"', 401],
  ["an address without TLS", 'Bearer realm="http://auth.example/token"', 401],
  ["a refusal of something else", 'Bearer realm="https://auth.example/token"', 403],
])("no token is asked for after %s", (_, challenge, status) => {
  expect(tokenUrlOf(refusal(challenge, status), origin)).toBeUndefined();
});

test("a registry without TLS may have a token server without", () => {
  const challenge = 'Bearer realm="http://127.0.0.1:5001/token"';
  expect(tokenUrlOf(refusal(challenge), "http://127.0.0.1:5000")?.host).toBe("127.0.0.1:5001");
});
