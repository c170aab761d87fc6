/**
 * How a route gets into the OpenAPI document (openapi-document.ts): it names its answers with `documented`, and checks its
 * input with `checkedPath` and `checkedQuery`, whose schemas the document shows too.
 */
import { type DescribeRouteOptions, describeRoute, resolver, validator } from "hono-openapi";
import { z } from "zod";
import { problem } from "./problem.ts";

const PROBLEM = z
  .object({
    type: z.literal("about:blank"),
    title: z.string().meta({ description: "What is wrong, in a few words.", examples: ["Bad request"] }),
    status: z.int().meta({ description: "The status of the answer.", examples: [400] }),
    detail: z
      .string()
      .optional()
      .meta({
        description: "What is wrong, what is expected and what to do.",
        examples: ["limit: expected a number from 1 to 500"],
      }),
    errors: z
      .array(z.string())
      .optional()
      .meta({ description: "One entry per error, if the request may have several." }),
  })
  .meta({ id: "Problem", description: "A problem document (RFC 9457)." });

const PROBLEMS = {
  400: "The request is not valid.",
  401: "The token is missing or wrong.",
  403: "`Host` or `Origin` is not allowed.",
  404: "It does not exist.",
  408: "The body did not arrive in time.",
  409: "Its state does not allow the request.",
  413: "The body is too large.",
  415: "The content type is not `application/json`.",
  429: "Too many requests of this client, which may try again after `Retry-After` seconds.",
  500: "An error of Blacktree. The orchestrator's log has it.",
  503: "A server that the orchestrator needs does not answer; try again after `Retry-After` seconds.",
} as const;

/** Every route can answer with these. */
const COMMON_PROBLEMS = [400, 401, 403, 429, 500, 503] as const;
const PROBLEMS_OF_PUBLIC_ROUTES = [400, 403, 500] as const;
/** Every route that has a body can answer with these. */
const PROBLEMS_OF_BODIES = [408, 413] as const;

type ProblemStatus = keyof typeof PROBLEMS;
type Answer = NonNullable<DescribeRouteOptions["responses"]>[string];
type Headers = Extract<Answer, { headers?: unknown }>["headers"];

export interface Documentation {
  /** In the document; by default made from method and path, such as `drainWorker`. */
  readonly id?: string;
  readonly summary: string;
  readonly description?: string;
  readonly tag: "Jobs" | "Logs" | "Workers" | "Orchestrator";
  /** Of a successful answer. */
  readonly status?: 200 | 202;
  readonly answer: z.ZodType | { readonly contentTypes: readonly string[]; readonly description: string };
  /** Of the successful answer. */
  readonly answered?: string;
  /** Answers that are neither successful nor problems. */
  readonly otherAnswers?: Readonly<
    Record<number, { readonly description: string; readonly answer: z.ZodType }>
  >;
  /** Of the request; json-body.ts reads it. */
  readonly body?: { readonly schema: z.ZodType; readonly isOptional?: true; readonly description?: string };
  /** Besides those that every route can answer with; with their meanings if those are not the general ones. */
  readonly problems?: readonly ProblemStatus[] | Readonly<Partial<Record<ProblemStatus, string>>>;
  /** Without a token. */
  readonly isPublic?: true;
}

/** Adds the route to the OpenAPI document. */
export function documented(documentation: Documentation) {
  const { id, summary, description, tag, status = 200, answer, body, isPublic } = documentation;
  const { answered = status === 202 ? "Accepted." : "Done." } = documentation;
  const others = Object.entries(documentation.otherAnswers ?? {});
  return describeRoute({
    operationId: id ?? (({ method, path }) => operationIdOf(method, path)),
    summary,
    ...(description !== undefined && { description }),
    tags: [tag],
    ...(isPublic && { security: [] }),
    ...(body && {
      requestBody: {
        ...(body.description !== undefined && { description: body.description }),
        required: !body.isOptional,
        content: { "application/json": { schema: resolved(body.schema) } },
      },
    }),
    responses: {
      [status]: answerOf(answer, answered),
      ...Object.fromEntries(others.map(([each, other]) => [each, answerOf(other.answer, other.description)])),
      ...problemsOf(documentation),
    },
  });
}

function problemsOf({ problems = [], body, isPublic }: Documentation) {
  const isList = "length" in problems;
  const meanings: Readonly<Record<string, string>> = isList ? {} : problems;
  const special = isList ? problems : (Object.keys(problems).map(Number) as ProblemStatus[]);
  const common = isPublic ? PROBLEMS_OF_PUBLIC_ROUTES : COMMON_PROBLEMS;
  const all = new Set<ProblemStatus>([...common, ...(body ? PROBLEMS_OF_BODIES : []), ...special]);
  return Object.fromEntries(
    [...all]
      .toSorted((a, b) => a - b)
      .map((status) => [
        status,
        { ...referenceTo(status), ...(status in meanings && { description: meanings[status] }) },
      ]),
  );
}

/** `GET /api/v1/jobs` is `listJobs`, `GET /api/v1/jobs/:id/logs` is `getJobLogs`, `POST /api/v1/workers/:id/drain` is `drainWorker`. */
function operationIdOf(method: string, path: string): string {
  const segments = path.split("/").filter((segment) => !["", "api", "v1"].includes(segment));
  const isParameter = (segment: string | undefined) => segment?.startsWith(":") ?? false;
  const names = segments.flatMap((segment, index) => {
    if (isParameter(segment)) return [];
    const [first = "", ...rest] = segment.split(/[^A-Za-z0-9]+/).filter(Boolean);
    const name = [first, ...rest.map(capitalized)].join("");
    return [isParameter(segments[index + 1]) ? name.replace(/s$/, "") : name];
  });
  const last = names.at(-1) ?? "";
  if (method === "POST" && names.length > 1) return last + names.slice(0, -1).map(capitalized).join("");
  const isList = segments.length === 1 && last.endsWith("s") && last !== "status";
  const verb = method === "GET" ? (isList ? "list" : "get") : method.toLowerCase();
  return verb + names.map(capitalized).join("");
}

const capitalized = (word: string) => word.charAt(0).toUpperCase() + word.slice(1);

function answerOf(answer: Documentation["answer"], description: string): Answer {
  if ("contentTypes" in answer) {
    const text = { schema: { type: "string" as const } };
    const content = Object.fromEntries(answer.contentTypes.map((type) => [type, text]));
    return { description: answer.description, content };
  }
  return { description, content: { "application/json": { schema: resolved(answer) } } };
}

const nameOfProblem = (status: number) => `Problem${status}`;

export const referenceTo = (status: ProblemStatus) => ({
  $ref: `#/components/responses/${nameOfProblem(status)}`,
});

const RETRY_AFTER: Headers = {
  "Retry-After": {
    description: "Seconds until the request may be sent again.",
    schema: { type: "integer", minimum: 1 },
  },
};

/** By the names that `referenceTo` uses. */
export function problemAnswers() {
  const statuses = Object.keys(PROBLEMS).map(Number) as ProblemStatus[];
  return Object.fromEntries(statuses.map((status) => [nameOfProblem(status), problemAnswer(status)]));
}

function problemAnswer(status: ProblemStatus) {
  const content = { "application/problem+json": { schema: resolved(PROBLEM) } };
  const description = PROBLEMS[status];
  return status === 429 || status === 503
    ? { description, content, headers: RETRY_AFTER }
    : { description, content };
}

const SCHEMA_OPTIONS = { options: { unrepresentable: "any" as const, override: simplified } };

const resolved = (schema: z.ZodType) => resolver(schema, SCHEMA_OPTIONS);

interface Converted {
  readonly zodSchema: z.core.$ZodTypes;
  readonly jsonSchema: z.core.JSONSchema.BaseSchema;
}

/**
 * Without the patterns that zod adds to formats and the bounds that it adds to whole numbers: they say less to a reader
 * than `date-time` and `integer`. With the examples and defaults that zod leaves out where a value is transformed.
 */
function simplified({ zodSchema, jsonSchema }: Converted): void {
  if (jsonSchema.format !== undefined) delete jsonSchema.pattern;
  if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
  if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
  const { examples, default: byDefault } = z.globalRegistry.get(zodSchema) ?? {};
  if (Array.isArray(examples)) jsonSchema.examples = examples;
  if (byDefault !== undefined) jsonSchema.default = byDefault;
}

/** The handler gets the parsed query by `context.req.valid("query")`. */
export function checkedQuery<Schema extends z.ZodType>(schema: Schema) {
  return checked("query", schema);
}

/** Of parameters in the path, such as `:id`. */
export function checkedPath<Schema extends z.ZodType>(schema: Schema) {
  return checked("param", schema);
}

function checked<Target extends "query" | "param", Schema extends z.ZodType>(target: Target, schema: Schema) {
  const names = schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
  return validator(
    target,
    schema,
    (result, context) => {
      if (result.success) return;
      const given = result.data as Readonly<Record<string, unknown>>;
      const issues = result.error as readonly Issue[];
      return badRequest(
        context,
        issues.map((issue) => clarified(issue, given, names)),
      );
    },
    SCHEMA_OPTIONS,
  );
}

export interface Issue {
  readonly path?: readonly PropertyKey[];
  readonly message: string;
  /** Of zod. */
  readonly code?: string;
  readonly keys?: readonly string[];
}

function clarified(issue: Issue, given: Readonly<Record<string, unknown>>, names: readonly string[]): Issue {
  if (issue.code === "unrecognized_keys")
    return { path: [issue.keys?.join(", ") ?? ""], message: `unknown; expected ${names.join(", ")}` };
  const value = given[String(issue.path?.[0])];
  // A union may have a list as one of its choices.
  const isRepeated = Array.isArray(value) && issue.code !== "invalid_union";
  return isRepeated ? { ...issue, message: `given ${value.length} times; expected once` } : issue;
}

export function badRequest(
  context: Parameters<typeof problem>[0],
  issues: readonly Issue[],
  title = "Bad request",
): Response {
  const errors = issues.map(({ path = [], message }) => [...path.map(String), message].join(": "));
  return problem(context, { status: 400, title, detail: errors.join("; "), errors });
}
