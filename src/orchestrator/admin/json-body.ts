/** Reads the JSON that a request contains: of limited size, in limited time. */
import type { Context, MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { z } from "zod";
import { readJson } from "../../shared/json-text.ts";
import type { AdminEnv } from "./client-address.ts";
import { badRequest, type Issue } from "./openapi.ts";
import { problem } from "./problem.ts";

const MAX_BODY_BYTES = 1024 * 1024;

/** A client that announces more bytes than it sends would keep its request for ever. */
const BODY_TIMEOUT_MS = 30_000;

const limitedBody = bodyLimit({
  maxSize: MAX_BODY_BYTES,
  onError: (context) =>
    problem(context, {
      status: 413,
      title: "Too large",
      detail: `expected at most ${MAX_BODY_BYTES} bytes`,
    }),
});

/** The body, or the answer to a request whose body cannot be read. */
export async function readBody(context: Context, timeoutMs = BODY_TIMEOUT_MS): Promise<Buffer | Response> {
  const read = async () =>
    (await limitedBody(context, async () => {})) ?? Buffer.from(await context.req.arrayBuffer());
  const timeout = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => timeout.resolve(undefined), timeoutMs);
  try {
    return (await Promise.race([read(), timeout.promise])) ?? bodyTimedOut(context, timeoutMs);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") return bodyIncomplete(context);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

function bodyTimedOut(context: Context, timeoutMs: number): Response {
  // The rest of the body would be read as the next request.
  context.header("Connection", "close");
  const detail = `the body did not arrive within ${timeoutMs / 1000} s; expected as many bytes as Content-Length says`;
  return problem(context, { status: 408, title: "Body timed out", detail });
}

/** The client does not receive this answer: it has closed the connection. */
function bodyIncomplete(context: Context): Response {
  return badRequest(context, [{ message: "the connection was closed before the whole body arrived" }]);
}

interface ReadBody {
  readonly body: Buffer;
  readonly value: unknown;
}

async function readJsonBody(context: Context, title?: string): Promise<ReadBody | Response> {
  const body = await readBody(context);
  if (body instanceof Response) return body;
  const read = readJson(body.length === 0 ? EMPTY_OBJECT : body);
  return "value" in read
    ? { body, value: read.value }
    : badRequest(context, [{ message: read.problem }], title);
}

const EMPTY_OBJECT = Buffer.from("{}");

type Checked<Output> = MiddlewareHandler<AdminEnv, string, { in: { json: Output }; out: { json: Output } }>;

/** The handler gets the body as it was sent, valid JSON or empty, by `context.req.valid("json")`. */
export function jsonBody({ title }: { readonly title: string }): Checked<Buffer> {
  return async (context, next) => {
    const read = await readJsonBody(context, title);
    if (read instanceof Response) return read;
    context.req.addValidatedData("json", read.body);
    return next();
  };
}

/** The handler gets the parsed body by `context.req.valid("json")`. No body is the same as an empty object. */
export function checkedBody<Schema extends z.ZodType>(schema: Schema): Checked<z.output<Schema>> {
  return async (context, next) => {
    const read = await readJsonBody(context);
    if (read instanceof Response) return read;
    const { success, data, error } = schema.safeParse(read.value);
    if (!success) return badRequest(context, error.issues as readonly Issue[]);
    context.req.addValidatedData("json", data as object);
    return next();
  };
}
