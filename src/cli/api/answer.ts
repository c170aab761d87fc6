/** Reads answers of the admin API. Under a wrong address, or from a proxy, other programs answer. */
import { z } from "zod";
import { maskUrlPasswords } from "../../shared/settings/settings.ts";
import { ApiError, describeProblem } from "./error.ts";

/** @throws ApiError unless the answer has the fields of `shape`. */
export async function objectOf<Body>(response: Response, shape: z.ZodType): Promise<Body> {
  const value = parsed(await response.text());
  if (value === undefined) throw otherProgram(response, "is not JSON");
  const [issue] = shape.safeParse(value).error?.issues ?? [];
  if (issue === undefined) return value as Body;
  const field = issue.path.join(".");
  throw otherProgram(response, field === "" ? "is not a JSON object" : `has no valid ${field}`);
}

/** @throws ApiError if it is of another type. */
export function streamOf(response: Response, type: string): ReadableStream<Uint8Array<ArrayBuffer>> {
  const given = response.headers.get("content-type") ?? "";
  if (given.split(";")[0]?.trim().toLowerCase() !== type)
    throw otherProgram(response, given === "" ? `is not ${type}` : `is ${given} instead of ${type}`);
  return response.body ?? new ReadableStream({ start: (controller) => controller.close() });
}

function otherProgram({ url, status }: Response, what: string): ApiError {
  const message = `${maskUrlPasswords(url)} is not the admin API of an orchestrator: the answer ${what}; check --api or BLACKTREE_API`;
  return new ApiError(message, status);
}

const PROBLEM = z.object({
  title: z.string(),
  detail: z.string().optional(),
  errors: z.array(z.string()).min(1).optional(),
});

const MAX_SHOWN_CHARS = 200;

/** @param tokenOrigin for the message that the token is refused */
export async function refusalOf(response: Response, tokenOrigin: string): Promise<ApiError> {
  const { status } = response;
  const text = await response.text();
  const value = parsed(text);
  const { data: problem } = PROBLEM.safeParse(value);
  const message = problem ? describeProblem(problem) : describeOther(status, text, value);
  return new ApiError(status === 401 ? `${message}; ${tokenOrigin}` : message, status, problem, {
    // A proxy does not know what the orchestrator did; the API itself says what it did, unless it failed.
    mayHaveActed: status >= 500 && (problem === undefined || status === 500),
  });
}

/** A page is one line. */
function describeOther(status: number, text: string, value: unknown): string {
  const shown = value === undefined ? text.trim().split("\n")[0] : JSON.stringify(value);
  return `the API answered ${status}${shown ? `: ${shown.slice(0, MAX_SHOWN_CHARS)}` : ""}`;
}

/** Undefined if it is not JSON. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
