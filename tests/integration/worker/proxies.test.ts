/** All of a worker's own requests go through the proxy of the environment: only it can resolve these hosts. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { unifyProxies } from "../../../src/shared/env.ts";
import { RegistryClient } from "../../../src/worker/registry/client.ts";
import { EcrAuthenticator } from "../../../src/worker/registry/ecr/authenticator.ts";
import { RegistryLogin } from "../../../src/worker/registry/login.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import { isolatedNetwork } from "../../support/machine/isolated-network.ts";
import { run } from "../../support/machine/processes.ts";
import { type Aws, startAws } from "../../support/servers/aws.ts";
import { type HttpProxy, startHttpProxy } from "../../support/servers/http-proxy.ts";
import { startTinyproxy } from "../../support/servers/tinyproxy.ts";
import { type CloneBench, repositoryName, startCloneBench } from "./git/clone-bench.ts";

const PROGRAM = join(import.meta.dir, "proxied-requests.ts");
const account = "123456789012";
const region = "us-east-1";
const { signal } = new AbortController();
const before = { ...process.env };
const byProxyOnly = (url: string, name: string) => url.replace("127.0.0.1", name);

let bench: CloneBench;
let aws: Aws;
let proxy: HttpProxy | undefined;

beforeAll(async () => {
  [bench, aws] = await Promise.all([
    startCloneBench(),
    startAws({ account, region, repositories: { [account]: ["images"] } }),
  ]);
});
afterAll(() => Promise.all([bench.stop(), aws.stop()]));

afterEach(async () => {
  for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name];
  Object.assign(process.env, before);
  await proxy?.stop();
  proxy = undefined;
});

async function useProxy(variable: string, login?: { user: string; password: string }): Promise<HttpProxy> {
  proxy = await startHttpProxy(login);
  const endpoint = byProxyOnly(aws.endpoint, "aws.test");
  Object.assign(process.env, aws.env(), { AWS_ENDPOINT_URL_ECR: endpoint, AWS_ENDPOINT_URL_STS: endpoint });
  process.env[variable] = proxy.url;
  unifyProxies();
  return proxy;
}

async function clone(): Promise<string> {
  const name = repositoryName();
  const commit = await bench.git.createRepository(name, { file: "f" });
  const baseUrl = byProxyOnly(bench.git.baseUrl, "git.test");
  const run = await bench.cloned({ url: `${baseUrl}/${name}`, baseUrl, branch: "main" });
  expect(run.commit).toBe(commit);
  return name;
}

async function signIn(arnTemplate?: string): Promise<void> {
  const authenticator = new EcrAuthenticator(arnTemplate === undefined ? {} : { role: { arnTemplate } });
  const job = { awsAccount: account, region, ecrRepo: "images", tenant: "acme" };
  const access = await authenticator.authenticate({ job, log: () => undefined, signal });
  expect(access.credentials?.username).toBe("AWS");
}

async function lookUp(origin: string): Promise<unknown> {
  const access = { host: new URL(origin).host, origin, tagMutability: "unknown" } as const;
  return new RegistryClient(new RegistryLogin(access), "push").getManifest("app", "v1", signal);
}

describe.each([
  ["HTTP_PROXY", undefined],
  ["http_proxy", { user: "us@er", password: "p:a/ss" }],
  ["ALL_PROXY", undefined],
] as const)("with %s", (variable, login) => {
  test("git, ECR, STS and the registry are reached through it", async () => {
    const { requests, refused } = await useProxy(variable, login);
    const registry = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: () => new Response(null, { status: 404 }),
    });
    try {
      const name = await clone();
      await signIn();
      await signIn("arn:aws:iam::{account}:role/push");
      expect(await lookUp(`http://registry.test:${registry.port}`)).toBeUndefined();
      const paths = requests.join("\n");
      expect(paths).toContain(`/${name}/info/refs`);
      expect(
        requests.filter((line) => line.startsWith("POST http://aws.test:")).length,
      ).toBeGreaterThanOrEqual(5);
      expect(paths).toContain(`GET http://registry.test:${registry.port}/v2/app/manifests/v1`);
      // git tries without its login first.
      expect(refused.filter((line) => !line.includes(name))).toEqual([]);
    } finally {
      registry.stop(true);
    }
  });
});

test("nothing on this machine is reached through it, nor what NO_PROXY names", async () => {
  process.env.NO_PROXY = ".elsewhere.test";
  const { requests, refused } = await useProxy("http_proxy");
  for (const hostname of ["127.0.0.1", "::1"]) {
    const registry = Bun.serve({ hostname, port: 0, fetch: () => new Response(null, { status: 404 }) });
    try {
      const host = hostname === "::1" ? "[::1]" : hostname;
      expect(await lookUp(`http://${host}:${registry.port}`)).toBeUndefined();
    } finally {
      registry.stop(true);
    }
  }
  const name = repositoryName();
  await bench.git.createRepository(name, { file: "f" });
  await bench.cloned({ url: `${bench.git.baseUrl}/${name}`, branch: "main" });
  await expect(lookUp("http://registry.elsewhere.test:5000")).rejects.toThrow("cannot be reached");
  expect({ requests, refused }).toEqual({ requests: [], refused: [] });
});

test("a proxy that refuses is named by the failure, without its password", async () => {
  await useProxy("http_proxy", { user: "user", password: "right" });
  process.env.http_proxy = proxy?.url.replace("right", "hidden");
  unifyProxies();
  const failure = await signIn().then(
    () => undefined,
    (error: Error) => error,
  );
  expect(failure?.message).toContain("407");
  expect(failure?.message).not.toContain("hidden");
});

inFullCheck().describe("with tinyproxy as the only way out of a network", () => {
  test.each([
    ["without a login", undefined],
    ["with a login", { user: "user", password: "pass-word" }],
  ] as const)(
    "%s, git, ECR and the registry are reached through it, and nothing without it",
    async (_, login) => {
      const network = await isolatedNetwork();
      const registry = Bun.serve({
        hostname: network.beyond,
        port: 0,
        fetch: () => new Response(null, { status: 404 }),
      });
      const tinyproxy = await startTinyproxy(network.gateway, login);
      try {
        const name = repositoryName();
        await bench.git.createRepository(name, { file: "f" });
        const urls = [
          `${await network.relay(bench.git.baseUrl)}/${name}`,
          `http://${network.beyond}:${registry.port}`,
        ];
        const endpoint = await network.relay(aws.endpoint);
        const env = { ...aws.env(), AWS_ENDPOINT_URL_ECR: endpoint, AWS_ENDPOINT_URL_STS: endpoint };
        const outcomes = async (proxies: Record<string, string>) => {
          const command = [...network.enter, process.execPath, PROGRAM, ...urls];
          return JSON.parse((await run(command, { env: { ...env, ...proxies } })).stdout);
        };
        const all = (outcome: unknown) => ({ git: outcome, aws: outcome, registry: outcome });
        expect(await outcomes({ HTTP_PROXY: tinyproxy.url })).toEqual(all("ok"));
        expect(await outcomes({})).toEqual(all(expect.not.stringMatching(/^ok$/)));
        if (login) {
          const wrong = tinyproxy.url.replace(login.password, "hidden");
          const refused = await outcomes({ HTTP_PROXY: wrong });
          // tinyproxy refuses with 401, as a server would.
          expect(refused).toEqual(all(expect.not.stringMatching(/^ok$/)));
          expect(JSON.stringify(refused)).not.toContain("hidden");
        }
      } finally {
        registry.stop(true);
        await tinyproxy.stop();
        await network.remove();
      }
    },
  );
});
