/** Each source of AWS credentials, from local servers and programs; and what the failures say. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { describeAwsCredentials, findAwsCredentials } from "../../../../../src/shared/aws/credentials.ts";
import { StepFailure } from "../../../../../src/worker/job/failure.ts";
import { EcrAuthenticator } from "../../../../../src/worker/registry/ecr/authenticator.ts";
import { makeTempDir, type TempDir } from "../../../../support/machine/temp-dir.ts";
import { type Aws, startAws } from "../../../../support/servers/aws.ts";

type Variables = Record<string, string>;
type Answer = (request: Request) => Response | Promise<Response>;

const account = "123456789012";
const region = "us-east-1";
const ROLE = `arn:aws:iam::${account}:role/builder`;
const KEY = { accessKeyId: "AKIAOFTHESOURCE7Q2X", secretAccessKey: "hidden-key", account };
/** Of a role's session. */
const SESSION = { ...KEY, accessKeyId: "ASIAOFTHESOURCE7Q2X", sessionToken: "hidden-session" };
const JSON_SESSION = { AccessKeyId: SESSION.accessKeyId, SecretAccessKey: SESSION.secretAccessKey };
const JSON_KEY = { AccessKeyId: KEY.accessKeyId, SecretAccessKey: KEY.secretAccessKey };
const EXPIRATION = { Expiration: new Date(Date.now() + 3_600_000).toISOString() };
const PAGE = () =>
  new Response("<html>hidden: please sign in</html>", { headers: { "content-type": "text/html" } });
const DOWN = () => new Response("hidden", { status: 503 });

const before = { ...process.env };
let aws: Aws;
let folder: TempDir;
const servers: Bun.Server<undefined>[] = [];

beforeAll(async () => {
  [aws, folder] = await Promise.all([
    startAws({ account, region, repositories: { [account]: ["images"] } }),
    makeTempDir("credentials"),
  ]);
  for (const key of [KEY, SESSION]) aws.addKey(key);
});
afterAll(async () => {
  await aws.stop();
  await folder.remove();
});
afterEach(() => {
  for (const server of servers.splice(0)) server.stop(true);
  for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name];
  Object.assign(process.env, before);
});

/** With no other variables of AWS than these and those of the test's AWS. */
function use(variables: Variables): void {
  const { AWS_ACCESS_KEY_ID: _id, AWS_SECRET_ACCESS_KEY: _secret, ...settings } = aws.env();
  for (const name of Object.keys(process.env)) if (name.startsWith("AWS_")) delete process.env[name];
  Object.assign(process.env, settings, { HOME: folder.path }, variables);
}

function serve(answer: Answer): string {
  const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: answer });
  servers.push(server);
  return `http://127.0.0.1:${server.port}`;
}

async function file(text: string): Promise<string> {
  const path = join(folder.path, crypto.randomUUID());
  await Bun.write(path, text);
  return path;
}

const profile = async (...lines: string[]): Promise<Variables> => ({
  AWS_PROFILE: "builder",
  AWS_CONFIG_FILE: await file(["[profile builder]", ...lines].join("\n")),
});

const program = (output: string) => profile(`credential_process = printf '%s' '${output}'`);

const webIdentity = async (answer: Answer): Promise<Variables> => ({
  AWS_ENDPOINT_URL_STS: serve(answer),
  AWS_ROLE_ARN: ROLE,
  AWS_WEB_IDENTITY_TOKEN_FILE: await file("hidden-token"),
});

function assumed(request: Request): Response {
  const fields = Object.entries({ ...JSON_SESSION, ...EXPIRATION, SessionToken: SESSION.sessionToken });
  const credentials = fields.map(([name, value]) => `<${name}>${value}</${name}>`).join("");
  const action = "AssumeRoleWithWebIdentity";
  const body = `<${action}Response><${action}Result><Credentials>${credentials}</Credentials></${action}Result></${action}Response>`;
  return new Response(request.method === "POST" ? body : "", { headers: { "content-type": "text/xml" } });
}

const container = async (answer: Answer): Promise<Variables> => ({
  AWS_CONTAINER_CREDENTIALS_FULL_URI: `${serve(answer)}/credentials`,
});

const instance = async (answer: Answer): Promise<Variables> => ({
  AWS_EC2_METADATA_DISABLED: "false",
  AWS_EC2_METADATA_SERVICE_ENDPOINT: serve(answer),
});

function metadata({ method, url, headers }: Request): Response {
  const path = new URL(url).pathname;
  if (path === "/latest/api/token" && method === "PUT") return new Response("token");
  if (headers.get("x-aws-ec2-metadata-token") !== "token") return new Response(null, { status: 401 });
  if (path.endsWith("/security-credentials/")) return new Response("builder");
  return Response.json({ Code: "Success", ...JSON_SESSION, Token: SESSION.sessionToken, ...EXPIRATION });
}

const signIn = () =>
  new EcrAuthenticator({}).authenticate({
    job: { awsAccount: account, region, ecrRepo: "images", tenant: "acme" },
    log: () => undefined,
    signal: AbortSignal.timeout(60_000),
  });

test.each<[string, () => Promise<Variables>, string]>([
  [
    "the environment",
    async () => ({ AWS_ACCESS_KEY_ID: KEY.accessKeyId, AWS_SECRET_ACCESS_KEY: KEY.secretAccessKey }),
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
  ],
  [
    "a profile",
    () => profile(`aws_access_key_id = ${KEY.accessKeyId}`, `aws_secret_access_key = ${KEY.secretAccessKey}`),
    'the profile "builder"',
  ],
  [
    "a program of a profile",
    () => program(JSON.stringify({ Version: 1, ...JSON_KEY })),
    'the profile "builder"',
  ],
  ["a web identity", () => webIdentity(assumed), "the web identity in "],
  [
    "a container",
    () => container(() => Response.json({ ...JSON_SESSION, Token: SESSION.sessionToken, ...EXPIRATION })),
    "the container's credentials endpoint",
  ],
  ["an instance", () => instance(metadata), "the role of this instance"],
])("credentials of %s are used, and named by source and the end of their key", async (_, variables, name) => {
  use(await variables());
  const found = describeAwsCredentials(await findAwsCredentials(region));
  expect(found).toContain(name);
  expect(found).toEndWith(", key …7Q2X");
  const earlier = aws.calls.length;
  await signIn();
  const used = new Set(aws.calls.slice(earlier).map((call) => call.accessKeyId));
  expect([...used]).toEqual([expect.stringMatching(/^A[KS]IAOFTHESOURCE7Q2X$/)]);
});

test("a profile's role is assumed", async () => {
  use({
    AWS_PROFILE: "builder",
    AWS_CONFIG_FILE: await file(
      [
        `[profile builder]\nrole_arn = ${ROLE}\nsource_profile = source`,
        `[profile source]\naws_access_key_id = ${KEY.accessKeyId}\naws_secret_access_key = ${KEY.secretAccessKey}`,
      ].join("\n"),
    ),
  });
  const access = await signIn();
  expect(access.credentials?.username).toBe("AWS");
  expect(aws.calls.at(-1)?.accessKeyId).toStartWith("ASIA");
});

describe("without usable credentials", () => {
  test.each<[string, () => Promise<Variables>, RegExp, boolean]>([
    ["nothing is set", async () => ({}), /there are none; set AWS_PROFILE, or AWS_ACCESS_KEY_ID/, true],
    [
      "the profile is missing",
      async () => ({ AWS_PROFILE: "builder" }),
      /from the profile "builder": it does not exist, or has no credentials; /,
      false,
    ],
    [
      "single sign-on has expired",
      () =>
        profile(
          "sso_session = s",
          `sso_account_id = ${account}`,
          "sso_role_name = r",
          "[sso-session s]\nsso_region = us-east-1\nsso_start_url = https://x.awsapps.com/start",
        ),
      /SSO session .*; run aws sso login --profile builder/,
      false,
    ],
    [
      "the program of the profile fails",
      () => profile("credential_process = sh -c 'echo hidden >&2; exit 3'"),
      /its credential_process failed/,
      true,
    ],
    [
      "the program of the profile is missing",
      () => profile("credential_process = /nowhere/program --token hidden"),
      /its credential_process failed/,
      true,
    ],
    [
      "the program of the profile prints a page",
      () => program("<html>hidden</html>"),
      /its credential_process returned invalid JSON/,
      false,
    ],
    [
      "the program of the profile prints expired credentials",
      () => program(JSON.stringify({ Version: 1, ...JSON_KEY, Expiration: "2020-01-01T00:00:00Z" })),
      /its credential_process returned expired credentials/,
      false,
    ],
    [
      "a key has a line break in it",
      async () => ({ AWS_ACCESS_KEY_ID: "AKIA\nHIDDEN", AWS_SECRET_ACCESS_KEY: "hidden" }),
      /the access key id is empty, or contains a space, a line break/,
      false,
    ],
    [
      "the secret key ends with a line break",
      async () => ({ AWS_ACCESS_KEY_ID: "AKIA", AWS_SECRET_ACCESS_KEY: "hidden\n" }),
      /the secret access key is empty, or contains a space, a line break/,
      false,
    ],
    [
      "the session token has a line break in it",
      async () => ({ AWS_ACCESS_KEY_ID: "AKIA", AWS_SECRET_ACCESS_KEY: "hidden", AWS_SESSION_TOKEN: "a\nb" }),
      /the session token is empty, or contains a space, a line break/,
      false,
    ],
    [
      "the web identity's file is missing",
      async () => ({ AWS_ROLE_ARN: ROLE, AWS_WEB_IDENTITY_TOKEN_FILE: "/nowhere/token" }),
      /from the web identity in \/nowhere\/token .*ENOENT/,
      true,
    ],
    ["a page answers for STS", () => webIdentity(PAGE), /no usable answer \(Invalid response from STS/, true],
    [
      "a page answers for the container's endpoint",
      () => container(PAGE),
      /no usable answer \(.*not one of AWS/,
      true,
    ],
    [
      "the container's endpoint is down",
      () => container(DOWN),
      /from the container's credentials endpoint: there are none/,
      true,
    ],
    [
      "a page answers for the metadata service",
      () => instance(PAGE),
      /from the profile "default" or the role/,
      true,
    ],
    ["the metadata service is down", () => instance(DOWN), /from the profile "default" or the role/, true],
  ])("%s", async (_, variables, message, retryable) => {
    use(await variables());
    const error: unknown = await signIn().catch((thrown: unknown) => thrown);
    if (!(error instanceof StepFailure)) throw new Error("it did not fail as it should", { cause: error });
    expect(error.failure).toMatchObject({ code: "ECR_AUTH", step: "authenticate", retryable });
    expect(error.message).toStartWith("no AWS credentials from ");
    expect(error.message).toMatch(message);
    expect(error.message).not.toMatch(/hidden/i);
  });

  test("the program of the profile never ends", async () => {
    use(await profile("credential_process = sleep 600"));
    const found = findAwsCredentials(region, 100);
    await expect(found).rejects.toMatchObject({ name: "NoAwsCredentials", mayPass: true });
    await expect(found).rejects.toThrow("no answer within 0.1 s");
  });
});
