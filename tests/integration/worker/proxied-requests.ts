/**
 * A worker's requests to git, ECR and a registry, in a process of its own: `<git URL> <registry URL>`, with the variables
 * of AWS and of proxies in the environment. Prints what has succeeded.
 */
import { unifyProxies } from "../../../src/shared/env.ts";
import { RegistryClient } from "../../../src/worker/registry/client.ts";
import { EcrAuthenticator } from "../../../src/worker/registry/ecr/authenticator.ts";
import { RegistryLogin } from "../../../src/worker/registry/login.ts";
import { startCloneBench } from "./git/clone-bench.ts";

const [url = "", origin = ""] = process.argv.slice(2);
const signal = AbortSignal.timeout(60_000);
const bench = await startCloneBench();

async function signIn(): Promise<void> {
  const job = { awsAccount: "123456789012", region: "us-east-1", ecrRepo: "images", tenant: "acme" };
  await new EcrAuthenticator({}).authenticate({ job, log: () => undefined, signal });
}

async function lookUp(): Promise<void> {
  const access = { host: new URL(origin).host, origin, tagMutability: "unknown" } as const;
  await new RegistryClient(new RegistryLogin(access), "push").getManifest("app", "v1", signal);
}

unifyProxies();
const work: Readonly<Record<string, () => Promise<unknown>>> = {
  git: () => bench.cloned({ url, baseUrl: new URL(url).origin, branch: "main" }),
  aws: signIn,
  registry: lookUp,
};
const outcomes: Record<string, string> = {};
for (const [name, start] of Object.entries(work)) {
  outcomes[name] = await start().then(
    () => "ok",
    (error: Error) => error.message,
  );
}
await bench.stop();
process.stdout.write(JSON.stringify(outcomes));
