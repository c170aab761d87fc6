/** Where a worker's secrets are while a job runs: in files of its user alone, in no argument list, in no core dump. */
import { expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import { readdir, readFile, stat } from "node:fs/promises";
import { join, relative } from "node:path";
import { expectSuccess, faultSite, holdPush, sampleJob } from "../../support/blacktree/fault-site.ts";
import { commandLines } from "../../support/blacktree/running-programs.ts";
import { waitFor } from "../../support/machine/wait-for.ts";

const site = faultSite();

interface Found {
  readonly path: string;
  /** In octal. */
  readonly mode: string;
}

/** The files below the folder that contain one of the texts. */
async function filesWith(folder: string, texts: readonly string[]): Promise<Found[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const found: Found[] = [];
  for (const path of files) {
    const content = await readFile(path);
    if (!texts.some((text) => content.includes(text))) continue;
    found.push({ path: relative(folder, path), mode: ((await stat(path)).mode & 0o777).toString(8) });
  }
  return found;
}

test("during a run, only the worker's user can read its secrets", async () => {
  const { backends } = site;
  const token = `git-${randomUUID()}`;
  const secret = `secret-${randomUUID()}`;
  const login = { username: "AWS", password: `ecr-${randomUUID()}` };
  backends.aws.configure({ registryLogin: login });
  const asStored = ({ username, password }: typeof login) =>
    Buffer.from(`${username}:${password}`).toString("base64");
  const base = { username: "pull", password: `base-${randomUUID()}` };
  const identityToken = `identity-${randomUUID()}`;
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator();
  const worker = await deployment.startWorker(orchestrator);
  const job = await sampleJob(backends, { variant: "working" });
  backends.git.makePrivate(job.repo_url, token);
  const push = site.keep(holdPush(backends, job));
  const registry_auths = { "ghcr.io": base, "quay.io": { identity_token: identityToken } };
  await deployment.publish({ ...job, git_token: token, secrets: { npm: secret }, registry_auths });
  await push.arrived;

  const ofLogins = [login, base].flatMap((each) => [each.password, asStored(each)]);
  const secrets = [token, secret, identityToken, ...ofLogins];
  // The worker checks its builder meanwhile, in a folder that it removes: a search that meets it is repeated.
  const found = await waitFor(() => filesWith(worker.workDir, secrets), {
    timeoutMs: 60_000,
    what: "a search of all files of the worker",
  });
  const kinds = found.map(({ path }) => path.replace(/^runs\/[^/]+\/[^/]+\//, ""));
  expect(kinds.toSorted()).toEqual(["docker-config/config.json", "secrets/npm"]);
  expect(found.map(({ mode }) => mode)).toEqual(["600", "600"]);
  const config = kinds.indexOf("docker-config/config.json");
  const { auths } = JSON.parse(await readFile(join(worker.workDir, found[config]?.path ?? ""), "utf8"));
  expect(auths).toMatchObject({
    "ghcr.io": { auth: asStored(base) },
    "quay.io": { identitytoken: identityToken },
  });
  const lines = await commandLines();
  expect(lines.filter((line) => secrets.some((text) => line.includes(text)))).toEqual([]);
  for (const { process } of [orchestrator, worker]) {
    const limits = await readFile(`/proc/${process.pid}/limits`, "utf8");
    expect(limits).toMatch(/^Max core file size +0 +0 /m);
  }

  push.release();
  await expectSuccess(site, job, { worker });
  const stored = [await deployment.redisContents(), ...deployment.printed()].join("\n");
  for (const text of secrets) expect(stored).not.toContain(text);
});
