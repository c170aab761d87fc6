/** The fields of the API's answers that the commands need: without them, an answer is not that of an orchestrator. */
import { z } from "zod";

const text = z.string();
const texts = z.array(text);
const object = z.looseObject({});
const listOf = (item: z.ZodType) => z.looseObject({ items: z.array(item) });

const SUMMARY = z.looseObject({ job_id: text, state: text, accepted_at: text });

const RESULT = z.looseObject({ status: text, timings_ms: object });

export const JOB = SUMMARY.extend({
  events: z.array(object),
  result: RESULT.nullable(),
  steps: z.array(object).nullish(),
});

export const JOBS = listOf(SUMMARY).extend({ next_cursor: text.nullable() });

export const NEW_JOB = z.looseObject({ job_id: text });

export const CANCELLED_JOB = z.looseObject({ job_id: text, state: text });

export const WAITING = z.looseObject({
  job_id: text,
  state: text,
  is_waiting: z.boolean(),
  reason: text,
  workers: z.array(z.looseObject({ id: text, region: text, status: text, reason: text })),
});

const CONTROL = object.nullable();

export const WORKERS = listOf(
  z.looseObject({
    id: text,
    region: text,
    address: text,
    status: text,
    last_seen: text,
    control: CONTROL,
    jobs: texts,
    labels: object,
  }),
);

export const REGIONS = listOf(
  z.looseObject({ region: text, workers: object, slots: object, jobs: texts, control: CONTROL }),
);

export const ORDERED = z.looseObject({ control: CONTROL, jobs: texts });

export const STATUS = z.looseObject({ version: text, region: text, started_at: text, connected: object });
