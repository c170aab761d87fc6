/**
 * Odd repositories and Dockerfiles, each built by hand (reference.ts) and by Blacktree. Both must fail, or both images
 * must have the same content. An input whose difference is intended names the page that documents it.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { JobResult } from "../../../src/shared/job.ts";
import { type Deployment, startDeployment, type WorkerProcess } from "../../support/blacktree/deployment.ts";
import { inFullCheck, isFullCheck } from "../../support/machine/full-check.ts";
import { type Backends, startBackends } from "../../support/servers/backends.ts";
import { importBaseImage } from "../../support/servers/docker-engines.ts";
import { imageInRegistry, imageLines } from "./image-content.ts";
import type { OddInput } from "./input.ts";
import { KINDS } from "./inputs/kinds.ts";
import { describeOutcome, differencesOf, type Outcome } from "./outcome.ts";
import { type Reference, startReference } from "./reference.ts";
import { type Served, serve } from "./served.ts";

const ROOT = join(import.meta.dir, "../../..");
const TABLE = join(ROOT, ".cache/odd-repositories.txt");
const ACCOUNT = "1234567890";
const REPOSITORY = "app-images";

const inputs = KINDS.flatMap((kind) => kind.inputs);
const runs = (input: OddInput) => isFullCheck || input.inDefaultCheck === true;

let backends: Backends;
let deployment: Deployment;
let worker: WorkerProcess;
let reference: Reference;

beforeAll(async () => {
  backends = await startBackends({ engine: "26.1" });
  backends.aws.addRepository(ACCOUNT, REPOSITORY);
  await importBaseImage(backends.docker, "busybox-base:latest");
  reference = await startReference(backends);
  deployment = await startDeployment(backends);
  const orchestrator = await deployment.startOrchestrator({
    BLACKTREE_MAX_ATTEMPTS: "2",
    BLACKTREE_UNSUPPORTED_AFTER: "1s",
  });
  worker = await deployment.startWorker(orchestrator);
});

afterAll(async () => {
  await Bun.write(TABLE, rows.map(describeRow).join("\n"));
  await deployment?.stop();
  await reference?.stop();
  await backends?.stop();
}, 900_000);

interface Attempt {
  readonly served: Served;
  readonly blacktree: Outcome;
}

const attempts = new Map<OddInput, Promise<Attempt>>();

interface Row {
  readonly input: OddInput;
  readonly reference: Outcome;
  readonly blacktree: Outcome;
  readonly differences: readonly string[];
  readonly isSame: boolean;
}

const rows: Row[] = [];

/** Each input is a job once, whichever tests use its outcome. */
function attemptOf(input: OddInput): Promise<Attempt> {
  const attempt = attempts.get(input) ?? submit(input);
  attempts.set(input, attempt);
  return attempt;
}

const versionOf = (input: OddInput) => `input-${inputs.indexOf(input)}`;

async function submit(input: OddInput): Promise<Attempt> {
  const served = await serve(backends.git, inputs.indexOf(input), input);
  await deployment.publish({
    job_id: versionOf(input),
    repo_url: served.repository,
    branch: "main",
    deployment_version: versionOf(input),
    aws_account: ACCOUNT,
    ecr_repo: REPOSITORY,
    ...input.fields,
  });
  const result = await deployment.nextResult(180_000);
  expect(result.deployment_version).toBe(versionOf(input));
  return { served, blacktree: await outcomeOf(result) };
}

async function outcomeOf({ status, error, logs, deployment_version }: JobResult): Promise<Outcome> {
  if (status === "SUCCESS" && deployment_version !== null)
    return {
      end: "built",
      image: await imageLines(imageInRegistry(backends.registry, REPOSITORY, deployment_version)),
      log: logs,
    };
  if (error === null) throw new Error(`a job ended with ${status} and without an error`);
  return { end: "failed", code: error.code, message: error.message, log: logs };
}

async function compare(input: OddInput): Promise<void> {
  const { served, blacktree } = await attemptOf(input);
  const byHand = await reference.build(input, served);
  const bothBuilt = byHand.end === "built" && blacktree.end === "built";
  const differences = bothBuilt ? differencesOf(byHand.image, blacktree.image) : [];
  const isSame = byHand.end === blacktree.end && differences.length === 0;
  const row = { input, reference: byHand, blacktree, differences, isSame };
  rows.push(row);
  const { reference: expected, blacktree: code } = input.differs ?? {};
  const isExpected = input.differs
    ? !isSame && byHand.end === expected && codeOf(blacktree) === code
    : isSame;
  if (!isExpected) throw new Error(describeRow(row));
}

/** Paths of the machine on which a worker runs, which no input contains. */
const namesHostPath = (text: string) =>
  text.includes(worker.workDir) || /(?<!\w)\/(proc|tmp|root|home|var)\//.test(text);

const codeOf = (outcome: Outcome) => (outcome.end === "built" ? "built" : `${outcome.code}`);

function describeRow({ input, reference: byHand, blacktree, differences, isSame }: Row): string {
  const kind = KINDS.find(({ inputs: ofKind }) => ofKind.includes(input));
  const verdict = isSame ? "same" : "different";
  const reason = input.differs
    ? `, intended: ${input.differs.reason} (${input.differs.documented.page})`
    : "";
  return [
    `${kind?.name} > ${input.name}: ${verdict}${reason}`,
    `  reference: ${describeOutcome(byHand)}`,
    `  Blacktree: ${describeOutcome(blacktree)}`,
    ...differences.map((line) => `  ${line}`),
    "",
  ].join("\n");
}

for (const { name, inputs: ofKind } of KINDS)
  describe(name, () => {
    for (const input of ofKind) inFullCheck(!input.inDefaultCheck).test(input.name, () => compare(input));
  });

test("a failure has neither code INTERNAL nor a path of the worker's machine in its message and log", async () => {
  const faults: string[] = [];
  for (const input of inputs.filter(runs)) {
    const { blacktree } = await attemptOf(input);
    if (blacktree.end === "failed" && blacktree.code === "INTERNAL")
      faults.push(`${input.name}: ${blacktree.message}`);
    const texts = blacktree.end === "failed" ? [blacktree.message, ...blacktree.log] : blacktree.log;
    // The first line of a build says which program builds it, which is in a temporary folder here.
    const searched = texts.map((text) => text.replaceAll(backends.docker.cli, "docker"));
    faults.push(...searched.filter(namesHostPath).map((text) => `${input.name}: ${text}`));
  }
  expect(faults).toEqual([]);
  // Alone, it builds all inputs.
}, 3_600_000);

test("every input has a different name, and every intended difference is documented", async () => {
  const names = KINDS.flatMap((kind) => kind.inputs.map(({ name }) => `${kind.name} > ${name}`));
  expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
  for (const { differs } of inputs) {
    if (!differs) continue;
    const { page, says } = differs.documented;
    expect((await Bun.file(join(ROOT, page)).text()).replace(/\s+/g, " ")).toContain(says);
  }
});
