/** `POST /api/v1/jobs/:id/retry` */
import { randomUUID } from "node:crypto";
import type { Hono } from "hono";
import { z } from "zod";
import type { RetrySource } from "../records/job-records.ts";
import type { AdminEnv } from "./client-address.ts";
import { noSuchJob, notSubmitted } from "./job-routes.ts";
import { checkedBody } from "./json-body.ts";
import { badRequest, documented } from "./openapi.ts";
import type { AdminParts } from "./parts.ts";
import { problem } from "./problem.ts";
import { RETRY_BODY, retryMessage } from "./retry-message.ts";
import { type Acceptance, type SenderProperties, SUBMIT_TIMEOUT_MS } from "./submit-job.ts";

const RETRIED = z
  .object({
    job_id: z.string().meta({ description: "Of the new job." }),
    retry_of: z.string().meta({ description: "Of the ended job." }),
  })
  .meta({ id: "RetriedJob" });

const DESCRIPTION =
  "Makes a new job from the message of an ended one: the same request again, so it builds the tip of its branch, unless it has a `commit`, and takes part in its `supersede` group as the latest job. The result also goes to the `reply_to` queues and has the `correlation_id` of the ended job. `git_token`, `secrets` and `registry_auths` are not stored: those that the job had have to be sent again. With `job_id` the request can be repeated, and starts one job.";

export function addRetry(app: Hono<AdminEnv>, parts: AdminParts): void {
  app.post(
    "/api/v1/jobs/:id/retry",
    documented({
      summary: "Retry an ended job",
      description: DESCRIPTION,
      tag: "Jobs",
      status: 202,
      answer: RETRIED,
      body: { schema: RETRY_BODY, isOptional: true },
      problems: {
        404: "The job does not exist, or its record has expired.",
        409: "The job has not ended, or had secrets that the request lacks; or `job_id` is that of another job.",
        503: "The queue did not confirm the job in time, or Redis does not answer: repeat the request, with a `job_id`.",
      },
    }),
    checkedBody(z.unknown()),
    async (context) => {
      const given = context.req.valid("json");
      const body = RETRY_BODY.safeParse(given);
      if (!body.success) return badRequest(context, body.error.issues);
      const retriedId = context.req.param("id");
      const [record, source] = await Promise.all([
        parts.records.find(retriedId),
        parts.records.retrySource(retriedId),
      ]);
      if (!record || !source) return noSuchJob(retriedId, context);
      const newId = body.data.job_id ?? randomUUID();
      const request = { given: given as Record<string, unknown>, checked: body.data };
      const retry = retryMessage(record, source, request, newId);
      if ("problem" in retry) return problem(context, retry.problem);
      const acceptance = await submitAll(parts, retry.message, source);
      if (acceptance.kind !== "accepted") return notSubmitted(acceptance, context);
      return context.json({ job_id: newId, retry_of: retriedId } satisfies z.infer<typeof RETRIED>, 202);
    },
  );
}

/** A message names one queue for its result: each further one is that of a message that joins the job. */
async function submitAll(
  { submit }: AdminParts,
  message: object,
  { replyTo, correlationId }: RetrySource,
): Promise<Acceptance> {
  const body = Buffer.from(JSON.stringify(message));
  const signal = AbortSignal.timeout(SUBMIT_TIMEOUT_MS);
  const [first, ...others]: SenderProperties[] = replyTo.map((queue) => ({ correlationId, replyTo: queue }));
  let acceptance = await submit(body, signal, first ?? { correlationId });
  for (const properties of others) {
    if (acceptance.kind !== "accepted") break;
    acceptance = await submit(body, signal, properties);
  }
  return acceptance;
}
