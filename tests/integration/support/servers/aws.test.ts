import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  CreateRepositoryCommand,
  DescribeRepositoriesCommand,
  ECRClient,
  GetAuthorizationTokenCommand,
  ListImagesCommand,
} from "@aws-sdk/client-ecr";
import { AssumeRoleCommand, GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { type Aws, startAws } from "../../../support/servers/aws.ts";

let aws: Aws;

beforeAll(async () => {
  aws = await startAws({
    account: "111111111111",
    proxyEndpoint: "http://127.0.0.1:5000",
    repositories: { "111111111111": ["app", { name: "fixed", imageTagMutability: "IMMUTABLE" }] },
  });
});
const HOUR_MS = 3_600_000;

beforeEach(() =>
  aws.configure({
    throttleNext: 0,
    failNext: 0,
    denied: [],
    deniedRoles: [],
    wrongPassword: false,
    tokenLifetimeMs: 12 * HOUR_MS,
    sessionLifetimeMs: HOUR_MS,
  }),
);
afterAll(() => aws.stop());

interface Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
}

function settings(credentials: Credentials = aws, region = aws.region) {
  const { accessKeyId, secretAccessKey, sessionToken } = credentials;
  return {
    endpoint: aws.endpoint,
    region,
    credentials: { accessKeyId, secretAccessKey, sessionToken },
    maxAttempts: 1,
  };
}

const ecr = (credentials?: Credentials, region?: string) => new ECRClient(settings(credentials, region));
const sts = (credentials?: Credentials) => new STSClient(settings(credentials));
const token = (client = ecr()) => client.send(new GetAuthorizationTokenCommand({}));

function nameOf(failure: Promise<unknown>): Promise<string> {
  return failure.then(
    () => "no error",
    (error: Error) => error.name,
  );
}

async function assumeRole(account: string): Promise<Credentials> {
  const answer = await sts().send(
    new AssumeRoleCommand({ RoleArn: `arn:aws:iam::${account}:role/pusher`, RoleSessionName: "test" }),
  );
  return {
    accessKeyId: answer.Credentials?.AccessKeyId ?? "",
    secretAccessKey: answer.Credentials?.SecretAccessKey ?? "",
    sessionToken: answer.Credentials?.SessionToken,
  };
}

describe("signatures", () => {
  test("a signed request is accepted", async () => {
    const { authorizationData } = await token();
    expect(authorizationData?.[0]?.proxyEndpoint).toBe("http://127.0.0.1:5000");
    expect(authorizationData?.[0]?.expiresAt?.getTime()).toBeGreaterThan(Date.now());
    expect(atob(authorizationData?.[0]?.authorizationToken ?? "")).toStartWith("AWS:");
  });

  test("a wrong secret is refused", async () => {
    const client = ecr({ ...aws, secretAccessKey: "wrong" });
    expect(await nameOf(token(client))).toBe("InvalidSignatureException");
  });

  test("an unknown key is refused", async () => {
    const client = ecr({ ...aws, accessKeyId: "AKIAUNKNOWN" });
    expect(await nameOf(token(client))).toBe("UnrecognizedClientException");
  });

  test("a request signed for another region is refused", async () => {
    expect(await nameOf(token(ecr(undefined, "eu-west-1")))).toBe("InvalidSignatureException");
  });

  test("a request signed by a clock that is six minutes wrong is refused", async () => {
    const client = new ECRClient({ ...settings(), systemClockOffset: -6 * 60_000 });
    expect(await nameOf(token(client))).toBe("InvalidSignatureException");
  });

  test("a request whose body was changed after signing is refused", async () => {
    const client = ecr();
    client.middlewareStack.add(
      (next) => (args) => {
        const request = args.request as { body: string };
        // Of the same length, so that only the signature can reveal the change.
        request.body = "[]";
        return next(args);
      },
      { step: "finalizeRequest", priority: "low" },
    );
    expect(await nameOf(token(client))).toBe("InvalidSignatureException");
  });

  test("an unsigned request is refused", async () => {
    const response = await fetch(aws.endpoint, {
      method: "POST",
      headers: { "X-Amz-Target": "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken" },
      body: "{}",
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ __type: "MissingAuthenticationTokenException" });
  });
});

describe("roles", () => {
  test("a key of an assumed role acts for the role's account", async () => {
    const role = await assumeRole("222222222222");
    expect(await sts(role).send(new GetCallerIdentityCommand({}))).toMatchObject({
      Account: "222222222222",
      Arn: "arn:aws:sts::222222222222:assumed-role/pusher/test",
    });
    await token(ecr(role));
    expect(aws.calls.at(-1)).toMatchObject({ action: "GetAuthorizationToken", account: "222222222222" });
  });

  test("its key is refused without its session token, and with another one", async () => {
    const role = await assumeRole("222222222222");
    expect(await nameOf(token(ecr({ ...role, sessionToken: undefined })))).toBe(
      "UnrecognizedClientException",
    );
    expect(await nameOf(token(ecr({ ...role, sessionToken: "other" })))).toBe("UnrecognizedClientException");
  });

  test("its key is refused once it has expired", async () => {
    aws.configure({ sessionLifetimeMs: -1 });
    const role = await assumeRole("222222222222");
    aws.configure({ sessionLifetimeMs: 3_600_000 });
    expect(await nameOf(token(ecr(role)))).toBe("ExpiredTokenException");
  });

  test("a role can be refused", async () => {
    aws.configure({ deniedRoles: ["arn:aws:iam::333333333333:role/pusher"] });
    expect(await nameOf(assumeRole("333333333333"))).toBe("AccessDenied");
  });
});

describe("repositories", () => {
  const names = (...repositoryNames: string[]) =>
    ecr().send(new DescribeRepositoriesCommand({ repositoryNames }));

  test("known ones are described", async () => {
    const { repositories } = await names("app", "fixed");
    expect(repositories?.map((repository) => repository.imageTagMutability)).toEqual([
      "MUTABLE",
      "IMMUTABLE",
    ]);
  });

  test("an unknown one is named in the error", async () => {
    expect(await nameOf(names("nope"))).toBe("RepositoryNotFoundException");
    await expect(names("nope")).rejects.toThrow(
      "The repository with name 'nope' does not exist in the registry with id '111111111111'",
    );
  });

  test("can be created once", async () => {
    const create = () => ecr().send(new CreateRepositoryCommand({ repositoryName: "team/new" }));
    expect((await create()).repository?.repositoryName).toBe("team/new");
    expect(await nameOf(create())).toBe("RepositoryAlreadyExistsException");
    expect(aws.repositories("111111111111").map(({ name }) => name)).toContain("team/new");
  });
});

describe("faults", () => {
  test("throttling, failing and denial last as long as configured", async () => {
    aws.configure({ throttleNext: 1 });
    expect(await nameOf(token())).toBe("ThrottlingException");
    aws.configure({ failNext: 1 });
    expect(await nameOf(token())).toBe("ServerException");
    aws.configure({ denied: ["GetAuthorizationToken"] });
    expect(await nameOf(token())).toBe("AccessDeniedException");
    aws.configure({ denied: [] });
    expect(await nameOf(token())).toBe("no error");
  });

  test("an action that the emulator does not implement is an unknown operation", async () => {
    const listing = ecr().send(new ListImagesCommand({ repositoryName: "app" }));
    expect(await nameOf(listing)).toBe("UnknownOperationException");
  });

  test("registry tokens are valid until they expire", async () => {
    const password = async () => {
      const { authorizationData } = await token();
      return atob(authorizationData?.[0]?.authorizationToken ?? "").replace("AWS:", "");
    };
    expect(aws.login("AWS", await password())).toBe("valid");
    aws.configure({ tokenLifetimeMs: -1_000 });
    expect(aws.login("AWS", await password())).toBe("expired");
    aws.configure({ wrongPassword: true });
    expect(aws.login("AWS", await password())).toBe("unknown");
  });
});
