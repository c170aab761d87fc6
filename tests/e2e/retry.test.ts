/** An ended job is retried, through the admin API of another orchestrator and through `blacktree retry`. */
import { expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import type { JobResult } from "../../src/shared/job.ts";
import { ADMIN_TOKEN, apiRequest } from "../support/blacktree/admin-api.ts";
import { compiledBinaries } from "../support/blacktree/binaries.ts";
import { bodyOf } from "../support/blacktree/deployment.ts";
import { faultSite } from "../support/blacktree/fault-site.ts";
import { run } from "../support/machine/processes.ts";
import { sampleRepository } from "../support/machine/sample-repository.ts";

const site = faultSite();

test("retry: a failed job with secrets succeeds once they are supplied again, and nothing shows or stores them", async () => {
  const { backends } = site;
  const unique = () => randomUUID().slice(0, 13);
  const [wrongToken, token, secret] = [`git-${unique()}`, `git-${unique()}`, `secret-${unique()}`];
  const argument = `argument-${unique()}`;
  const sample = await sampleRepository();
  const Dockerfile = `FROM scratch
COPY bin/busybox /bin/busybox
ARG WORD=none
LABEL word=$WORD
RUN --mount=type=secret,id=npm,required=true ["/bin/busybox", "cat", "/run/secrets/npm"]
`;
  await backends.git.createRepository("owner/retried", { ...sample, Dockerfile }, { private: { token } });
  backends.aws.addRepository("1234567890", "retried");
  const deployment = await site.deploy();
  const first = await deployment.startOrchestrator();
  const second = await deployment.startOrchestrator();
  await deployment.startWorker(first);
  const events = await deployment.watchEvents();
  const { queue: replyTo } = await deployment.amqp.assertQueue("", { autoDelete: true });
  const job = {
    job_id: "failed",
    repo_url: "owner/retried",
    branch: "main",
    deployment_version: "v1",
    aws_account: "1234567890",
    ecr_repo: "retried",
    build_args: { WORD: argument },
    secrets: { npm: secret },
  };
  await deployment.publish({ ...job, git_token: wrongToken }, { replyTo, correlationId: "c-1" });
  const failed = bodyOf<JobResult>(await deployment.next(replyTo));
  expect(failed).toMatchObject({ status: "FAILED", error: { code: "GIT_AUTH" } });

  const headers = { "content-type": "application/json" };
  const post = async (body: object) => {
    const init = { method: "POST", headers, body: JSON.stringify(body) };
    const answer = await apiRequest(second.apiUrl, "/api/v1/jobs/failed/retry", init);
    return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
  };
  expect(await post({})).toMatchObject({
    status: 409,
    body: { errors: [expect.stringMatching(/^git_token: /), expect.stringMatching(/^secrets: .*npm/)] },
  });

  const { cli } = await compiledBinaries();
  const env = { BLACKTREE_API: second.apiUrl, BLACKTREE_ADMIN_TOKEN: ADMIN_TOKEN };
  const command = [cli, "retry", "failed", "--job-id", "retried", "--wait", "--json"];
  const refused = await run(command, { env, mayFail: true });
  expect(refused).toMatchObject({ exitCode: 1, stdout: "" });
  expect(refused.stderr).toMatch(/git_token.*: missing/);
  const retried = await run([...command, "--file", "-"], {
    env: { ...env, BLACKTREE_GIT_TOKEN: token },
    stdin: JSON.stringify({ secrets: { npm: secret } }),
  });
  expect(JSON.parse(retried.stdout)).toMatchObject({ job_id: "retried", status: "SUCCESS" });
  const reply = await deployment.next(replyTo);
  expect(bodyOf<JobResult>(reply)).toMatchObject({ job_id: "retried", status: "SUCCESS" });
  expect(reply.properties.correlationId).toBe("c-1");
  const { config } = await backends.registry.getImageConfig("retried", "v1");
  expect(config?.Labels).toMatchObject({ word: argument });

  // The same request again joins the retry.
  const repeated = { git_token: token, secrets: { npm: secret }, job_id: "retried" };
  expect(await post(repeated)).toMatchObject({
    status: 202,
    body: { job_id: "retried", retry_of: "failed" },
  });
  expect(bodyOf<JobResult>(await deployment.next(replyTo))).toMatchObject({ job_id: "retried" });
  const list = await (await apiRequest(first.apiUrl, "/api/v1/jobs")).json();
  const shown = { retry_of: "failed", build_args: { WORD: "***" } };
  expect(list).toMatchObject({ items: [{ job_id: "retried", ...shown }, { job_id: "failed" }] });
  expect(events.find(({ job_id }) => job_id === "retried")).toMatchObject({ retry_of: "failed" });

  const places = {
    "log lines": deployment.printed().join("\n"),
    events: JSON.stringify(events),
    list: JSON.stringify(list),
    job: await (await apiRequest(first.apiUrl, "/api/v1/jobs/retried")).text(),
    log: await (await apiRequest(first.apiUrl, "/api/v1/jobs/retried/logs")).text(),
    command: [refused, retried].map(({ stdout, stderr }) => stdout + stderr).join("\n"),
  };
  const stored = { ...places, Redis: await deployment.redisContents() };
  for (const [place, content] of Object.entries(stored))
    for (const text of [wrongToken, token, secret])
      expect({ place, seen: content.includes(text) }).toEqual({ place, seen: false });
  for (const [place, content] of Object.entries(places))
    expect({ place, seen: content.includes(argument) }).toEqual({ place, seen: false });
});
