/** The limits of a job's login at the registry. */
import { expect, test } from "bun:test";
import { expectSuccess, faultSite, sampleJob } from "../../support/blacktree/fault-site.ts";

const site = faultSite();

test("a job gets a session for its own repositories, and cannot push to those of the cache", async () => {
  const { backends } = site;
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator();
  const worker = await deployment.startWorker(orchestrator, {
    BLACKTREE_CACHE_REPO: "cache/{tenant}",
    BLACKTREE_ECR_ROLE_ARN: "arn:aws:iam::{account}:role/builder",
    BLACKTREE_ECR_EXTERNAL_ID: "blacktree/{tenant}",
  });
  const job = { ...(await sampleJob(backends, { variant: "working" })), tenant: "acme" };
  await deployment.publish(job);
  await expectSuccess(site, job, { worker });
  const session = backends.aws.calls.findLast(({ action }) => action === "AssumeRole")?.input;
  expect(session).toMatchObject({
    RoleSessionName: `blacktree-${job.job_id}`,
    ExternalId: "blacktree/acme",
  });
  const { Statement } = JSON.parse(String(session?.Policy));
  const arnOf = (name: string) => `arn:aws:ecr:us-east-1:${job.aws_account}:repository/${name}`;
  expect(Statement).toHaveLength(2);
  expect(Statement[0]).toMatchObject({
    Action: ["ecr:GetAuthorizationToken", "ecr:DescribeRepositoryCreationTemplates"],
  });
  expect(Statement[1]).toMatchObject({ Resource: [arnOf(job.ecr_repo), arnOf("cache/acme")] });

  const overwriting = { ...job, job_id: `${job.job_id}-2`, tenant: "other", ecr_repo: "cache/acme" };
  await deployment.publish(overwriting);
  expect(await deployment.nextResult()).toMatchObject({
    job_id: overwriting.job_id,
    status: "FAILED",
    attempt: 1,
    error: { code: "INVALID_JOB", step: "authenticate", retryable: false },
  });
  // The first job's cache may arrive there at any time.
  expect(await backends.registry.listTags("cache/acme")).not.toContain(overwriting.deployment_version);
});
