/**
 * The OpenAPI document of the admin API, made from the schemas that validate its requests. Each route names its answers
 * with `documented`, and checks its input with `checkedQuery` or `checkedBody`.
 */
import type { Hono } from "hono";
import {
  type DescribeRouteOptions,
  describeRoute,
  openAPIRouteHandler,
  resolver,
  validator,
} from "hono-openapi";
import { z } from "zod";
import { VERSION } from "../../shared/version.ts";
import type { AdminEnv } from "./client-address.ts";
import { problem } from "./problem.ts";

const PROBLEM = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string().optional().meta({ description: "What is wrong, what is expected and what to do." }),
    errors: z.array(z.string()).optional().meta({ description: "One entry per problem." }),
  })
  .meta({ id: "Problem", description: "A problem document (RFC 9457)." });

const PROBLEMS = {
  400: "The request is not valid.",
  401: "The token is missing or wrong.",
  403: "`Host` or `Origin` is not allowed.",
  404: "It does not exist.",
  409: "Its state does not allow the request.",
  413: "The body is too large.",
  415: "The content type is not application/json.",
  429: "Too many requests of this client.",
  503: "A server that the orchestrator needs does not answer.",
} as const;

/** Every route can answer with these. */
const COMMON_PROBLEMS = [401, 403, 429, 503] as const;

type ProblemStatus = keyof typeof PROBLEMS;
type Answer = NonNullable<DescribeRouteOptions["responses"]>[string];

export interface Documentation {
  readonly summary: string;
  readonly description?: string;
  readonly tag: "Jobs" | "Logs" | "Workers" | "Orchestrator";
  /** Of a successful answer. */
  readonly status?: 200 | 202;
  readonly answer: z.ZodType | { readonly contentTypes: readonly string[]; readonly description: string };
  /** Besides those that every route can answer with. */
  readonly problems?: readonly ProblemStatus[];
  /** Without a token. */
  readonly isPublic?: true;
}

/** Adds the route to the OpenAPI document. */
export function documented(documentation: Documentation) {
  const { summary, description, tag, status = 200, answer, problems = [], isPublic } = documentation;
  const statuses = isPublic ? problems : [...COMMON_PROBLEMS, ...problems];
  return describeRoute({
    summary,
    ...(description !== undefined && { description }),
    tags: [tag],
    ...(isPublic && { security: [] }),
    responses: {
      [status]: answerOf(answer),
      ...Object.fromEntries(statuses.map((each) => [each, problemAnswer(each)])),
    },
  });
}

function answerOf(answer: Documentation["answer"]): Answer {
  if ("contentTypes" in answer) {
    const { contentTypes, description } = answer;
    const text = { schema: { type: "string" as const } };
    return { description, content: Object.fromEntries(contentTypes.map((type) => [type, text])) };
  }
  return { description: "Done.", content: { "application/json": { schema: resolver(answer) } } };
}

function problemAnswer(status: ProblemStatus): Answer {
  const content = { "application/problem+json": { schema: resolver(PROBLEM) } };
  return { description: PROBLEMS[status], content };
}

/** The handler gets the parsed query by `context.req.valid("query")`. */
export function checkedQuery<Schema extends z.ZodType>(schema: Schema) {
  return validator("query", schema, (result, context) => {
    if (!result.success) return badRequest(context, result.error as readonly Issue[]);
  });
}

interface Issue {
  readonly path?: readonly unknown[];
  readonly message: string;
}

export function badRequest(context: Parameters<typeof problem>[0], issues: readonly Issue[]): Response {
  const errors = issues.map(({ path = [], message }) => [...path, message].join(": "));
  return problem(context, { status: 400, title: "Bad request", detail: errors.join("; "), errors });
}

export function addOpenApi(app: Hono<AdminEnv>): void {
  app.get(
    "/openapi.json",
    openAPIRouteHandler(app, {
      documentation: {
        openapi: "3.1.0",
        info: {
          title: "Blacktree admin API",
          version: VERSION,
          description:
            "Jobs, workers and logs of a Blacktree installation. Any orchestrator answers for all of them.",
        },
        components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
        security: [{ token: [] }],
      },
    }),
  );
}
