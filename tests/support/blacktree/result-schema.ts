import { z } from "zod";
import { ERROR_CODES } from "../../../src/shared/job.ts";

const time = z.iso.datetime();
const durationMs = z.int().nonnegative();
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const everyResult = {
  job_id: z.string().min(1),
  tenant: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/),
  deployment_version: z.string(),
  aws_account: z.string().regex(/^\d+$/),
  ecr_repo: z.string(),
  region: z.string(),
  worker_id: z.string().min(1),
  attempt: z.int().positive(),
  logs: z.array(z.string()),
  log: z.strictObject({ bytes: z.int(), lines: z.int(), sha256, truncated: z.boolean() }),
  timings_ms: z.strictObject({
    queued: durationMs,
    clone: durationMs,
    build: durationMs,
    auth: durationMs,
    push: durationMs,
    total: durationMs,
  }),
  accepted_at: time,
  started_at: time,
  finished_at: time,
};

/** All fields of a result of a worker, and no others. */
export const SUCCESS_SCHEMA = z.strictObject({
  ...everyResult,
  status: z.literal("SUCCESS"),
  image_url: z.string(),
  image_digest: z.string().regex(/^sha256:[0-9a-f]{64}$/),
  commit: z.string().regex(/^[0-9a-f]{40}(?:[0-9a-f]{24})?$/),
  error: z.null(),
});

export const FAILURE_SCHEMA = z.strictObject({
  ...everyResult,
  status: z.literal("FAILED"),
  image_url: z.null(),
  image_digest: z.null(),
  commit: z
    .string()
    .regex(/^[0-9a-f]{40}(?:[0-9a-f]{24})?$/)
    .nullable(),
  error: z.strictObject({
    code: z.enum(ERROR_CODES),
    message: z.string().min(1),
    step: z.string(),
    retryable: z.boolean(),
  }),
});
