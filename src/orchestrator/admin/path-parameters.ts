/** Checks the ids in paths, and describes them in the OpenAPI document, for all routes below these paths. */
import type { Hono } from "hono";
import { z } from "zod";
import { REGION_PATTERN } from "../../shared/settings/parsers.ts";
import { JOB_ID_PATTERN } from "../job/fields.ts";
import type { AdminEnv } from "./client-address.ts";
import { checkedPath } from "./openapi.ts";

const JOB_ID = z
  .string()
  .regex(JOB_ID_PATTERN, { error: "expected a job's id: 1 to 200 of letters, digits, . _ : and -" })
  .meta({ description: "Id of the job.", examples: ["web-2026-01-20.1"] });

const WORKER_ID = z
  .string()
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern rejects control characters
  .regex(/^[^\x00-\x1f\x7f-\x9f/]{1,200}$/, {
    error: "expected a worker's id: 1 to 200 characters without / and control characters",
  })
  .meta({ description: "Id of the worker.", examples: ["builder-7-5c1d90aa"] });

const REGION = z
  .string()
  .regex(REGION_PATTERN, { error: "expected a worker region: 1 to 63 letters, digits, - and _" })
  .meta({ description: "Worker region.", examples: ["us-east-1"] });

export function addPathParameters(app: Hono<AdminEnv>): void {
  app.use("/api/v1/jobs/:id/*", checkedPath(z.object({ id: JOB_ID })));
  app.use("/api/v1/workers/:id/*", checkedPath(z.object({ id: WORKER_ID })));
  app.use("/api/v1/regions/:region/*", checkedPath(z.object({ region: REGION })));
}
