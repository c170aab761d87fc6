import { createHash, createHmac, timingSafeEqual } from "node:crypto";

export interface SignedRequest {
  method: string;
  url: URL;
  headers: Headers;
  body: Uint8Array;
}

export interface AwsKey {
  accessKeyId: string;
  secretAccessKey: string;
  account: string;
  /** Set for a temporary key, which is valid only together with its session token. */
  sessionToken?: string;
  expiresAtMs?: number;
  /** The identity that GetCallerIdentity returns. */
  arn: string;
}

export type SignatureVerdict =
  | { accepted: true; key: AwsKey; region: string }
  | { accepted: false; code: SignatureError; message: string };

export type SignatureError =
  | "MissingAuthenticationTokenException"
  | "IncompleteSignatureException"
  | "UnrecognizedClientException"
  | "InvalidSignatureException"
  | "ExpiredTokenException";

export interface SignatureRules {
  service: string;
  region: string;
  nowMs: number;
  keyOf(accessKeyId: string): AwsKey | undefined;
}

const allowedSkewMs = 5 * 60_000;

function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

function hmac(key: string | Buffer, data: string): Buffer {
  return createHmac("sha256", key).update(data).digest();
}

function encode(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function canonicalQuery(url: URL): string {
  return [...url.searchParams]
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .sort()
    .join("&");
}

function canonicalRequest({ method, url, headers, body }: SignedRequest, signedHeaders: string): string {
  const lines = signedHeaders
    .split(";")
    .map((name) => `${name}:${(headers.get(name) ?? "").trim().replace(/\s+/g, " ")}\n`);
  const path = url.pathname.split("/").map(encode).join("/");
  return [method, path, canonicalQuery(url), lines.join(""), signedHeaders, sha256(body)].join("\n");
}

interface Authorization {
  accessKeyId: string;
  scope: string;
  date: string;
  region: string;
  service: string;
  signedHeaders: string;
  signature: string;
}

function parseAuthorization(header: string): Authorization | undefined {
  const parts =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/((\d{8})\/([^/]+)\/([^/]+)\/aws4_request), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/.exec(
      header,
    );
  if (parts === null) return undefined;
  const [, accessKeyId = "", scope = "", date = "", region = "", service = ""] = parts;
  return {
    accessKeyId,
    scope,
    date,
    region,
    service,
    signedHeaders: parts[6] ?? "",
    signature: parts[7] ?? "",
  };
}

function parseAmzDate(text: string): number {
  return Date.parse(text.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6Z"));
}

function signatureOf(request: SignedRequest, auth: Authorization, amzDate: string, secret: string): string {
  const key = [auth.date, auth.region, auth.service, "aws4_request"].reduce<string | Buffer>(
    (secretSoFar, part) => hmac(secretSoFar, part),
    `AWS4${secret}`,
  );
  const canonical = sha256(canonicalRequest(request, auth.signedHeaders));
  return hmac(key as Buffer, ["AWS4-HMAC-SHA256", amzDate, auth.scope, canonical].join("\n")).toString("hex");
}

function refuse(code: SignatureError, message: string): SignatureVerdict {
  return { accepted: false, code, message };
}

function checkScope(
  auth: Authorization,
  amzDate: string,
  rules: SignatureRules,
): SignatureVerdict | undefined {
  if (auth.service !== rules.service || auth.region !== rules.region) {
    const expected = `${rules.region}/${rules.service}`;
    return refuse(
      "InvalidSignatureException",
      `Credential should be scoped to a valid region and service: ${auth.region}/${auth.service} is not ${expected}.`,
    );
  }
  if (!amzDate.startsWith(auth.date)) {
    return refuse(
      "InvalidSignatureException",
      "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.",
    );
  }
  // Also true for a date that cannot be parsed.
  if (!(Math.abs(parseAmzDate(amzDate) - rules.nowMs) <= allowedSkewMs)) {
    return refuse(
      "InvalidSignatureException",
      `Signature expired or not yet current: ${amzDate} is not within 5 min. of the server's clock.`,
    );
  }
  return undefined;
}

/** Headers that a signature must cover but does not, so that a proxy could change the meaning of the request. */
function unsignedHeaders(request: SignedRequest, auth: Authorization): string[] {
  const signed = new Set(auth.signedHeaders.split(";"));
  const mustBeSigned = ["host", ...[...request.headers.keys()].filter((name) => name.startsWith("x-amz-"))];
  return mustBeSigned.filter((name) => !signed.has(name));
}

/** Checks a request as AWS does: Signature Version 4, computed from the received request. */
export function verifySignature(request: SignedRequest, rules: SignatureRules): SignatureVerdict {
  const header = request.headers.get("authorization");
  if (header === null) return refuse("MissingAuthenticationTokenException", "Missing Authentication Token");
  const auth = parseAuthorization(header);
  const amzDate = request.headers.get("x-amz-date");
  if (auth === undefined || amzDate === null) {
    return refuse(
      "IncompleteSignatureException",
      "Authorization header or X-Amz-Date is missing or malformed.",
    );
  }
  const badScope = checkScope(auth, amzDate, rules);
  if (badScope) return badScope;

  const key = rules.keyOf(auth.accessKeyId);
  const token = request.headers.get("x-amz-security-token") ?? undefined;
  if (key === undefined || key.sessionToken !== token) {
    return refuse("UnrecognizedClientException", "The security token included in the request is invalid.");
  }
  const unsigned = unsignedHeaders(request, auth);
  if (unsigned.length > 0) {
    return refuse("InvalidSignatureException", `'${unsigned.join("', '")}' must be a signed header.`);
  }
  const expected = signatureOf(request, auth, amzDate, key.secretAccessKey);
  if (!timingSafeEqual(Buffer.from(expected), Buffer.from(auth.signature))) {
    return refuse(
      "InvalidSignatureException",
      "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
    );
  }
  if (key.expiresAtMs !== undefined && key.expiresAtMs <= rules.nowMs) {
    return refuse("ExpiredTokenException", "The security token included in the request is expired");
  }
  return { accepted: true, key, region: auth.region };
}
