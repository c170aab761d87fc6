/** No program of a repository runs on the worker's machine. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expectNothingLeft, faultSite, sampleJob } from "../../support/blacktree/fault-site.ts";
import { type RepositoryFiles, sampleRepository } from "../../support/machine/sample-repository.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";

const site = faultSite();
let markers: TempDir;

beforeAll(async () => {
  markers = await makeTempDir("markers");
});

afterAll(() => markers?.remove());

const MISSING_COMMIT = "1".repeat(40);
const EVIL = "./bin/evil.sh";

/** Each makes git run the script when git is asked about the folder. */
const CONFIGS: Readonly<Record<string, readonly string[]>> = {
  // The commit of HEAD is missing, so git fetches it from the promisor.
  promisor: [
    "[extensions]",
    "partialClone = origin",
    '[remote "origin"]',
    "url = .",
    "promisor = true",
    `uploadpack = ${EVIL}`,
    '[protocol "file"]',
    "allow = always",
  ],
  ssh: [
    "[extensions]",
    "partialClone = origin",
    '[remote "origin"]',
    "url = ssh://host.invalid/repository",
    "promisor = true",
    '[protocol "ssh"]',
    "allow = always",
  ],
  ext: [
    "[extensions]",
    "partialClone = origin",
    '[remote "origin"]',
    `url = ext::${EVIL}`,
    "promisor = true",
    '[protocol "ext"]',
    "allow = always",
  ],
};

/** A folder that git takes for a bare repository with this configuration. */
async function hostileFiles(variant: string): Promise<RepositoryFiles> {
  const { Dockerfile = "", "bin/busybox": busybox = "", greeting = "" } = await sampleRepository();
  const config = [
    "[core]",
    "repositoryformatversion = 1",
    "bare = false",
    "worktree = .",
    `sshCommand = ${EVIL}`,
    ...(CONFIGS[variant] ?? []),
  ];
  // The script leaves a process that has nothing in common with its run: neither session, environment nor folder.
  const script = [
    "#!/bin/sh",
    `echo "$0 $*" > ${join(markers.path, variant)}`,
    "cd / && env -i setsid sleep 20 > /dev/null 2>&1 < /dev/null &",
    "exit 1",
  ];
  const folder: RepositoryFiles = {
    HEAD: "ref: refs/heads/main\n",
    "objects/keep": "",
    "refs/heads/main": `${MISSING_COMMIT}\n`,
    config: `${config.join("\n")}\n`,
    "bin/evil.sh": `${script.join("\n")}\n`,
    Dockerfile,
    "bin/busybox": busybox,
    greeting: `${greeting}${variant}\n`,
  };
  return Object.fromEntries(Object.entries(folder).map(([path, content]) => [`context/${path}`, content]));
}

test("a build context that looks like a bare repository: git does not follow its configuration", async () => {
  const { backends } = site;
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator();
  await deployment.startWorker(orchestrator, { BLACKTREE_WORKER_SLOTS: "2" });
  for (const variant of Object.keys(CONFIGS)) {
    const job = await sampleJob(backends);
    await backends.git.commit(job.repo_url, await hostileFiles(variant));
    await deployment.publish({ ...job, context: "context", provenance: true });
  }
  for (const _ of Object.keys(CONFIGS))
    expect(await deployment.nextResult()).toMatchObject({ status: "SUCCESS" });
  expect(await readdir(markers.path)).toEqual([]);
  await expectNothingLeft(deployment, orchestrator);
});
