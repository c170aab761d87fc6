import type { Step } from "../../shared/job.ts";
import { StepFailure } from "../job/failure.ts";

/** Image references, URLs, ARNs, and quoted text. */
const QUOTED_NAMES = /(?<=failed to push )\S+|https?:\/\/\S+|\barn:\S+|'[^']*'/g;

/** A registry's or docker's error message without the names in it: a repository may be called `authentication`. */
export function withoutNames(message: string): string {
  return message.replace(QUOTED_NAMES, "…");
}

/** Maps a registry's response to a failure, by its status and the error codes of the OCI distribution specification. */
export function registryRefusal(host: string, status: number, body: string, step: Step): StepFailure {
  const details = errorText(body);
  const message = `the registry ${host} answered ${status}${details === "" ? "" : `: ${details}`}`;
  if (/immutable|TAG_INVALID|ImageTagAlreadyExists/i.test(withoutNames(details))) {
    return new StepFailure({ code: "TAG_IMMUTABLE", step, message });
  }
  if (/NAME_UNKNOWN/.test(details)) return new StepFailure({ code: "ECR_REPO_NOT_FOUND", step, message });
  if (status === 401 || status === 403) return new StepFailure({ code: "ECR_AUTH", step, message });
  const retryable = status >= 500 || status === 429 || status === 408;
  return new StepFailure({ code: "PUSH_FAILED", step, message, retryable });
}

function errorText(body: string): string {
  try {
    const { errors = [] } = JSON.parse(body) as { errors?: readonly { code?: string; message?: string }[] };
    return errors.map(({ code = "", message = "" }) => `${code} ${message}`.trim()).join("; ");
  } catch {
    return body.slice(0, 200).trim();
  }
}
