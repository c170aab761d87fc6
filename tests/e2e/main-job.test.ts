/** The main job on the compiled binaries: a message in RabbitMQ becomes an image in the registry. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash, randomUUID } from "node:crypto";
import type { JobEvent, JobResult } from "../../src/shared/job.ts";
import { apiRequest } from "../support/blacktree/admin-api.ts";
import {
  bodyOf,
  type Deployment,
  type OrchestratorProcess,
  startDeployment,
  untilFree,
  type WorkerProcess,
} from "../support/blacktree/deployment.ts";
import { imageOutput } from "../support/blacktree/image-output.ts";
import { SUCCESS_SCHEMA } from "../support/blacktree/result-schema.ts";
import { runFolders } from "../support/blacktree/run-folders.ts";
import { commandLines, untilNoChildren } from "../support/blacktree/running-programs.ts";
import { sampleGreeting, sampleRepository } from "../support/machine/sample-repository.ts";
import { waitFor } from "../support/machine/wait-for.ts";
import { type Backends, startBackends } from "../support/servers/backends.ts";
import type { DockerEngine } from "../support/servers/docker-engines.ts";
import { borrowDockerEngine } from "../support/servers/pool.ts";

/** The example of the job flow's description. */
const DOCUMENTED_EXAMPLE = `{
  "repo_url": "username/reponame",
  "branch": "main",
  "deployment_version": "v1.0.3",
  "aws_account": "1234567890",
  "ecr_repo": "app-images"
}`;

const ECR_LOGIN = { username: "AWS", password: `ecr-${randomUUID()}` };

let backends: Backends;
let olderEngine: DockerEngine;
let firstCommit: string;

beforeAll(async () => {
  [backends, olderEngine] = await Promise.all([
    startBackends({ engine: "26.1" }),
    borrowDockerEngine("20.10"),
  ]);
  backends.aws.configure({ registryLogin: ECR_LOGIN });
  backends.aws.addRepository("1234567890", "app-images");
  firstCommit = await backends.git.createRepository("username/reponame", await sampleRepository());
});

afterAll(async () => {
  await Promise.all([olderEngine?.stop(), backends?.stop()]);
});

interface Site {
  readonly deployment: Deployment;
  readonly orchestrator: OrchestratorProcess;
  readonly worker: WorkerProcess;
}

async function startSite(docker: DockerEngine): Promise<Site> {
  const deployment = await startDeployment({ ...backends, docker });
  const orchestrator = await deployment.startOrchestrator();
  return { deployment, orchestrator, worker: await deployment.startWorker(orchestrator) };
}

const outputOf = (docker: DockerEngine, image: string) => imageOutput(docker, image, ECR_LOGIN);

const localImages = async (docker: DockerEngine) =>
  (await docker.docker(["images", "--all", "--quiet", "--no-trunc"])).stdout.split("\n").sort();

describe.each(["26.1", "20.10"] as const)("main job on Docker Engine %s", (engine) => {
  let docker: DockerEngine;
  let site: Site;
  // Each engine has a different version, since an existing version would not be built again.
  const example = DOCUMENTED_EXAMPLE.replace("v1.0.3", engine === "26.1" ? "v1.0.3" : `v-${engine}`);
  const { deployment_version: version } = JSON.parse(example);

  let message: Awaited<ReturnType<Deployment["next"]>>;
  let result: JobResult;
  let events: readonly JobEvent[];
  let imagesBefore: string[];
  let tagsBefore: string[];

  beforeAll(async () => {
    docker = engine === "26.1" ? backends.docker : olderEngine;
    site = await startSite(docker);
    events = await site.deployment.watchEvents();
    imagesBefore = await localImages(docker);
    tagsBefore = await backends.registry.listTags("app-images");
    await site.deployment.publish(example, { correlationId: "c-1" });
    message = await site.deployment.next("jobs.results");
    result = bodyOf<JobResult>(message);
  });

  afterAll(() => site?.deployment.stop());

  test("the documented example becomes an image that runs", async () => {
    expect(result).toMatchObject({ status: "SUCCESS", error: null });
    const byDigest = `${result.image_url?.replace(/:[^:/]*$/, "")}@${result.image_digest}`;
    expect(await outputOf(docker, byDigest)).toBe(sampleGreeting);
  });

  test("the result has every field, with correct values", async () => {
    expect(SUCCESS_SCHEMA.parse(result)).toEqual(result as never);
    const inRegistry = await backends.registry.getManifest("app-images", version);
    expect(result).toMatchObject({
      image_url: `${backends.ecr.host}/app-images:${version}`,
      image_digest: inRegistry?.digest,
      commit: firstCommit,
      deployment_version: version,
      tenant: "1234567890",
      aws_account: "1234567890",
      ecr_repo: "app-images",
      region: "us-east-1",
      worker_id: site.worker.id,
      attempt: 1,
    });
    const times = [result.accepted_at, result.started_at, result.finished_at].map((at) =>
      Date.parse(`${at}`),
    );
    expect(times).toEqual(times.toSorted((one, other) => one - other));
    const { clone, build, auth, push, total } = result.timings_ms;
    for (const step of [clone, build, auth, push]) expect(step).toBeWithin(1, total + 1);
  });

  test("the log is complete, and described correctly", () => {
    const log = result.logs.map((line) => `${line}\n`).join("");
    expect(log).toContain("the RUN step works");
    expect(result.log).toEqual({
      bytes: Buffer.byteLength(log),
      lines: result.logs.length,
      sha256: createHash("sha256").update(log).digest("hex"),
      truncated: false,
    });
  });

  test("the result's message is persistent and has the job's id", () => {
    expect(message.properties).toMatchObject({
      messageId: result.job_id,
      correlationId: "c-1",
      deliveryMode: 2,
    });
  });

  test("every state change is published as an event, numbered and in order", async () => {
    await waitFor(() => events.at(-1)?.state === "SUCCEEDED", { timeoutMs: 30_000, what: "the last event" });
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1));
    expect(events.map(({ job_id }) => job_id)).toEqual(events.map(() => result.job_id));
    expect(events.map(({ tenant }) => tenant)).toEqual(events.map(() => "1234567890"));
    // Sign-in runs in parallel with cloning.
    const states = events.map(({ state }) => state);
    expect(states.filter((state) => state !== "AUTHENTICATING")).toEqual([
      "QUEUED",
      "ASSIGNED",
      "CLONING",
      "BUILDING",
      "PUSHING",
      "SUCCEEDED",
    ]);
    expect(states.indexOf("AUTHENTICATING")).toBeWithin(2, 4);
    expect(events.at(-1)).toMatchObject({ attempt: 1, image_digest: result.image_digest });
  });

  test("only the worker puts the version's tag, and only once", () => {
    const puts = backends.ecr.tagPuts("app-images", version);
    expect(puts).toEqual([
      expect.objectContaining({ status: 201, userAgent: expect.stringMatching(/^Bun\//) }),
    ]);
  });

  test("nothing of the job is left afterwards", async () => {
    const { deployment, orchestrator, worker } = site;
    await untilFree(orchestrator, worker);
    expect(await runFolders(worker.workDir)).toEqual([]);
    expect(await localImages(docker)).toEqual(imagesBefore);
    await untilNoChildren(worker.process.pid);
    await untilNoChildren(orchestrator.process.pid);
    for (const priority of ["high", "normal", "low"])
      expect(await deployment.depth(`jobs.ready.us-east-1.${priority}`)).toBe(0);
    expect(await deployment.depth("jobs.build")).toBe(0);
    // Engine 20.10 cannot push by digest, and this registry does not delete a tag.
    const tags = await backends.registry.listTags("app-images");
    const made = tags.filter((tag) => !tagsBefore.includes(tag));
    if (engine === "26.1") expect(made).toEqual([version]);
  });
});

describe("variants of the main job", () => {
  let site: Site;
  let deployment: Deployment;
  let sent = 0;

  beforeAll(async () => {
    site = await startSite(backends.docker);
    deployment = site.deployment;
  });

  afterAll(() => site?.deployment.stop());

  /** A job like the documented one except for `changes`, each with a different version. */
  const jobOf = (changes: object = {}) => ({
    ...JSON.parse(DOCUMENTED_EXAMPLE),
    deployment_version: `variant-${sent++}`,
    ...changes,
  });

  async function succeed(changes: object): Promise<JobResult> {
    await deployment.publish(jobOf(changes));
    const result = await deployment.nextResult();
    expect(result).toMatchObject({ status: "SUCCESS" });
    return result;
  }

  test("reply_to receives the result too", async () => {
    const { queue } = await deployment.amqp.assertQueue("", { autoDelete: true });
    await deployment.publish(jobOf(), { replyTo: queue, correlationId: "c-2" });
    const [result, reply] = await Promise.all([deployment.next("jobs.results"), deployment.next(queue)]);
    expect(bodyOf<JobResult>(reply)).toEqual(bodyOf<JobResult>(result));
    expect(reply.properties).toMatchObject({
      messageId: bodyOf<JobResult>(result).job_id,
      correlationId: "c-2",
    });
  });

  test("a missing reply_to queue is logged and delays nothing", async () => {
    await deployment.publish(jobOf({ job_id: "replies-to-nobody" }), { replyTo: "no.such.queue" });
    expect(await deployment.nextResult()).toMatchObject({ job_id: "replies-to-nobody", status: "SUCCESS" });
    await site.orchestrator.process.waitForLine("no.such.queue");
    await deployment.publish(jobOf({ job_id: "the-next-one" }));
    expect(await deployment.nextResult()).toMatchObject({ job_id: "the-next-one", status: "SUCCESS" });
    await untilFree(site.orchestrator, site.worker);
  });

  test("a tag can be built instead of a branch", async () => {
    const tagged = await backends.git.createRepository("owner/tagged", await sampleRepository(), {
      tags: ["release-1"],
    });
    await backends.git.commit("owner/tagged", { "later.txt": "later\n" });
    const result = await succeed({ repo_url: "owner/tagged", branch: "release-1" });
    expect(result.commit).toBe(tagged);
  });

  test("a commit that is not the tip can be built", async () => {
    const files = await sampleRepository({ greeting: "the first" });
    const first = await backends.git.createRepository("owner/pinned", files);
    await backends.git.commit("owner/pinned", { greeting: "the second\n" });
    const { image_url, commit } = await succeed({ repo_url: "owner/pinned", commit: first });
    expect(commit).toBe(first);
    expect(await outputOf(backends.docker, `${image_url}`)).toBe("the first");
  });

  test("build arguments, target, labels, Dockerfile and context are applied", async () => {
    const sample = await sampleRepository();
    const dockerfile = [
      "FROM scratch AS base",
      "ARG WORD=none",
      "COPY bin/busybox /bin/busybox",
      'RUN ["/bin/busybox", "sh", "-c", "echo word $WORD > /printed"]',
      'CMD ["/bin/busybox", "cat", "/printed"]',
      "FROM base AS wanted",
      "LABEL stage=wanted",
      "FROM base AS last",
      "LABEL stage=last",
      "",
    ].join("\n");
    await backends.git.createRepository("owner/staged", {
      "app/bin/busybox": sample["bin/busybox"] ?? "",
      "deploy/Dockerfile.app": dockerfile,
    });
    const { image_url, deployment_version, commit } = await succeed({
      repo_url: "owner/staged",
      dockerfile: "deploy/Dockerfile.app",
      context: "app",
      target: "wanted",
      build_args: { WORD: "given" },
      labels: { "org.example.team": "builders" },
    });
    const { config } = await backends.registry.getImageConfig("app-images", `${deployment_version}`);
    expect(config?.Labels).toMatchObject({
      stage: "wanted",
      "org.example.team": "builders",
      "io.blacktree.commit": commit,
      "io.blacktree.target": "wanted",
    });
    expect(await outputOf(backends.docker, `${image_url}`)).toBe("word given");
  });

  test("the same version of the same commit is not built again", async () => {
    const job = jobOf();
    await deployment.publish(job);
    const first = await deployment.nextResult();
    await deployment.publish(job);
    const second = await deployment.nextResult();
    expect(second.job_id).not.toBe(first.job_id);
    expect(second).toMatchObject({ status: "SUCCESS", image_digest: first.image_digest });
    expect(backends.ecr.tagPuts("app-images", job.deployment_version)).toHaveLength(1);
  });

  test("a job's secrets appear nowhere", async () => {
    const token = `git-${randomUUID()}`;
    const buildArgument = `argument-${randomUUID()}`;
    const secret = `secret-${randomUUID()}`;
    const env = backends.aws.env();
    const awsSecret = `${env.AWS_SECRET_ACCESS_KEY}`;
    const sample = await sampleRepository();
    const printing = `${sample.Dockerfile}RUN --mount=type=secret,id=key ["/bin/busybox", "cat", "/run/secrets/key"]\n`;
    const files = { ...sample, Dockerfile: printing };
    await backends.git.createRepository("owner/private", files, { private: { token } });
    const events = await deployment.watchEvents();

    const held = backends.git.hold();
    const job = jobOf({
      job_id: "private-job",
      repo_url: "owner/private",
      git_token: token,
      build_args: { UNUSED: buildArgument },
      secrets: { key: secret },
    });
    await deployment.publish(job);
    await held.arrived;
    // While git talks to its server, every local user can read its arguments.
    const duringClone = await commandLines();
    expect(duringClone).toContainEqual(expect.stringContaining("owner/private"));
    held.release();
    const message = await deployment.next("jobs.results");
    expect(bodyOf<JobResult>(message)).toMatchObject({ status: "SUCCESS", job_id: "private-job" });
    await waitFor(() => events.at(-1)?.state === "SUCCEEDED", { timeoutMs: 30_000, what: "the last event" });

    const { registry } = backends;
    const places: Record<string, string> = {
      "argument lists": duringClone.join("\n"),
      "log lines": deployment.printed().join("\n"),
      "the result": message.content.toString(),
      "the events": JSON.stringify(events),
      Redis: await deployment.redisContents(),
      "the API": await (await apiRequest(site.orchestrator.apiUrl, "/api/v1/jobs/private-job")).text(),
      "the API's log": await (
        await apiRequest(site.orchestrator.apiUrl, "/api/v1/jobs/private-job/logs")
      ).text(),
      "the image": JSON.stringify(await registry.getImageConfig("app-images", job.deployment_version)),
    };
    // The job itself must appear in these places.
    for (const place of ["log lines", "the result", "the events", "Redis", "the API"])
      expect(`${place}: ${places[place]}`).toContain("private-job");
    const secrets = {
      "the secret": secret,
      "the git token": token,
      "the git token in base64": btoa(`x-access-token:${token}`),
      "the ECR password": ECR_LOGIN.password,
      "the ECR password in base64": btoa(`AWS:${ECR_LOGIN.password}`),
      "the AWS key": awsSecret,
    };
    for (const [place, content] of Object.entries(places))
      for (const [name, value] of Object.entries(secrets))
        expect({ place, name, seen: content.includes(value) }).toEqual({ place, name, seen: false });
    for (const place of ["log lines", "the events", "the API"])
      expect({ place, seen: places[place]?.includes(buildArgument) }).toEqual({ place, seen: false });
  });
});
