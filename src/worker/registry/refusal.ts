/**
 * What a registry's refusal means: a fault of the job, or one that may pass. Decided by the status and by the error
 * codes of the OCI distribution specification, for the worker's own requests and for those of docker and BuildKit.
 */
import type { ErrorCode, Step } from "../../shared/job.ts";
import { StepFailure } from "../job/failure.ts";
import { mayPassLater } from "../job/http-status.ts";
import { retryAfter } from "../job/retry-after.ts";

/** Image references, URLs, ARNs, and quoted text. */
const QUOTED_NAMES = /(?<=failed to push )\S+|https?:\/\/\S+|\barn:\S+|'[^']*'/g;

/** A registry's or docker's error message without the names in it: a repository may be called `authentication`. */
export function withoutNames(message: string): string {
  return message.replace(QUOTED_NAMES, "…");
}

export interface Refusal {
  /** Undefined when the program that sent the request reports none. */
  readonly status: number | undefined;
  /** In upper case, such as MANIFEST_INVALID. */
  readonly codes: readonly string[];
  /** Without names. */
  readonly details: string;
}

export interface RefusalMeaning {
  readonly code: Extract<ErrorCode, "TAG_IMMUTABLE" | "ECR_REPO_NOT_FOUND" | "ECR_AUTH" | "PUSH_FAILED">;
  readonly retryable: boolean;
  /** The registry limits the rate of requests. */
  readonly isThrottled: boolean;
}

/** The registry lacks a part of the image, or has received a wrong one: another push sends it again. */
const SENT_AGAIN = new Set([
  "BLOB_UNKNOWN",
  "BLOB_UPLOAD_INVALID",
  "BLOB_UPLOAD_UNKNOWN",
  "DIGEST_INVALID",
  "MANIFEST_BLOB_UNKNOWN",
  "RANGE_INVALID",
  "SIZE_INVALID",
]);
const TOO_MANY_REQUESTS = 429;
/** The upload is not where the client takes it to be: a new one begins at 0. */
const RANGE_NOT_SATISFIABLE = 416;

export function meaningOf({ status, codes, details }: Refusal): RefusalMeaning {
  const is = (code: RefusalMeaning["code"], retryable = false) => ({ code, retryable, isThrottled: false });
  if (/immutable|ImageTagAlreadyExists/i.test(details) || codes.includes("TAG_INVALID"))
    return is("TAG_IMMUTABLE");
  if (codes.includes("NAME_UNKNOWN")) return is("ECR_REPO_NOT_FOUND");
  if (status === TOO_MANY_REQUESTS || codes.includes("TOOMANYREQUESTS"))
    return { code: "PUSH_FAILED", retryable: true, isThrottled: true };
  if (status === 401 || status === 403 || codes.includes("UNAUTHORIZED") || codes.includes("DENIED"))
    return is("ECR_AUTH");
  return is("PUSH_FAILED", codes.some((code) => SENT_AGAIN.has(code)) || mayPass(status, codes));
}

/** With neither a status nor a code, the registry was not reached. */
function mayPass(status: number | undefined, codes: readonly string[]): boolean {
  if (status === undefined) return codes.length === 0;
  return status === RANGE_NOT_SATISFIABLE || mayPassLater(status);
}

/** The refusal of a request that the worker itself sent. */
export function registryRefusal(
  host: string,
  { status, headers }: Pick<Response, "status" | "headers">,
  body: string,
  step: Step,
): StepFailure {
  const errors = errorsOf(body);
  const details = errors
    ? errors.map(({ code = "", message = "" }) => `${code} ${message}`.trim()).join("; ")
    : body.slice(0, 200).trim();
  const codes = errors?.map(({ code = "" }) => code) ?? [];
  const { code, retryable, isThrottled } = meaningOf({ status, codes, details: withoutNames(details) });
  const retryAfterMs = retryable ? retryAfter(headers) : undefined;
  const throttled = isThrottled || retryAfterMs !== undefined ? { retryAfterMs } : undefined;
  const message = `the registry ${host} answered ${status}${details === "" ? "" : `: ${details}`}`;
  return new StepFailure({ code, step, message, retryable, throttled });
}

function errorsOf(body: string): readonly { code?: string; message?: string }[] | undefined {
  try {
    const { errors } = JSON.parse(body) as { errors?: unknown };
    return Array.isArray(errors) ? errors.filter((error) => typeof error === "object" && error !== null) : [];
  } catch {
    return undefined;
  }
}

/** The error codes of the distribution specification, and those that docker's registry adds. */
const CODES = [
  ...SENT_AGAIN,
  "DENIED",
  "MANIFEST_INVALID",
  "MANIFEST_UNKNOWN",
  "MANIFEST_UNVERIFIED",
  "NAME_INVALID",
  "NAME_UNKNOWN",
  "PAGINATION_NUMBER_INVALID",
  "TAG_INVALID",
  "TOOMANYREQUESTS",
  "UNAUTHORIZED",
  "UNSUPPORTED",
];
/** `unexpected status from PUT request to …: 413 …` (BuildKit), `received unexpected HTTP status: 503 …` (the engine). */
const STATUS = /\b(?:status(?: code)?(?: from \w+ request to …| \[[^\]]*\])?|HTTP):? (\d{3})\b/;

/** BuildKit reports no code: the registry misses an upload that it began, or a blob of a manifest. */
const LOST_BLOB = /\b(?:PUT|PATCH) request to \S+: 404\b/;

/** What docker or BuildKit reports of a registry's refusal. They print a code in lower case, with spaces. */
export function reportedRefusal(error: string): Refusal {
  const details = withoutNames(error);
  const status = STATUS.exec(details)?.[1];
  const isReported = (code: string) =>
    new RegExp(`(^|: )${code.replaceAll("_", "[ _]")}: `, "i").test(details);
  return {
    status: status === undefined ? undefined : Number(status),
    codes: [...CODES.filter(isReported), ...(LOST_BLOB.test(error) ? ["BLOB_UNKNOWN"] : [])],
    details,
  };
}
