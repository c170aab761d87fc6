import { createPrivateKey, sign, X509Certificate } from "node:crypto";
import type { CertificateFiles } from "../machine/certificates.ts";

export interface TokenServerOptions {
  /** The login that receives a token for any scope. */
  readonly username: string;
  readonly password: string;
  /** Accepted instead of the login. */
  readonly identityToken?: string;
  /** Signs the tokens, by an authority that the registry trusts. */
  readonly signer: CertificateFiles;
}

export interface TokenServer {
  readonly url: string;
  readonly service: string;
  readonly issuer: string;
  stop(): Promise<void>;
}

const service = "registry of a test";
const issuer = "token server of a test";
const lifetimeSeconds = 60;

interface Access {
  readonly type: string;
  readonly name: string;
  readonly actions: readonly string[];
}

/** From `repository:owner/name:pull,push`. */
function accessOf(scope: string): Access {
  const [type = "", name = "", actions = ""] = scope.split(":");
  return { type, name, actions: actions.split(",") };
}

const scopesOf = (parameters: URLSearchParams) =>
  parameters.getAll("scope").flatMap((scope) => scope.split(" "));

const encoded = (part: object) => Buffer.from(JSON.stringify(part)).toString("base64url");

/** A server beside a registry that accepts no passwords: it exchanges them for signed tokens. */
export async function startTokenServer(options: TokenServerOptions): Promise<TokenServer> {
  const { username, password, identityToken, signer } = options;
  const key = createPrivateKey(await Bun.file(signer.keyPath).text());
  const certificate = new X509Certificate(await Bun.file(signer.certPath).text());
  const header = encoded({ typ: "JWT", alg: "ES256", x5c: [certificate.raw.toString("base64")] });

  function tokenFor(scopes: readonly string[]): string {
    const now = Math.floor(Date.now() / 1000);
    const claims = encoded({
      iss: issuer,
      aud: service,
      sub: username,
      jti: crypto.randomUUID(),
      iat: now,
      nbf: now - lifetimeSeconds,
      exp: now + lifetimeSeconds,
      access: scopes.map(accessOf),
    });
    const signature = sign("sha256", Buffer.from(`${header}.${claims}`), { key, dsaEncoding: "ieee-p1363" });
    return `${header}.${claims}.${signature.toString("base64url")}`;
  }

  /** As OAuth 2 has it. Without an identity token the server has no such method, and clients use the login. */
  function refresh(form: URLSearchParams): Response {
    if (identityToken === undefined) return new Response(null, { status: 405 });
    if (form.get("grant_type") !== "refresh_token" || form.get("refresh_token") !== identityToken)
      return new Response(null, { status: 401 });
    return Response.json({ access_token: tokenFor(scopesOf(form)), expires_in: lifetimeSeconds });
  }

  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      const { searchParams } = new URL(request.url);
      if (request.method === "POST") return refresh(new URLSearchParams(await request.text()));
      // Docker requests tokens with a form; the specification's first method is the query.
      if (request.method !== "GET") return new Response(null, { status: 405 });
      if (request.headers.get("authorization") !== `Basic ${btoa(`${username}:${password}`)}`)
        return new Response(null, { status: 401 });
      return Response.json({ token: tokenFor(scopesOf(searchParams)), expires_in: lifetimeSeconds });
    },
  });
  return { url: `http://127.0.0.1:${server.port}/token`, service, issuer, stop: () => server.stop(true) };
}
