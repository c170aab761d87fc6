import { describeAwsError, isTemporary } from "../../../shared/aws/errors.ts";
import { StepFailure } from "../../job/failure.ts";

/** The failure for a refused or failed request to ECR or STS. */
export function ecrAuthFailure(what: string, error: unknown): StepFailure {
  const message = `${what}: ${describeAwsError(error)}`;
  const retryable = isTemporary(error);
  return new StepFailure({ code: "ECR_AUTH", step: "authenticate", message, retryable, cause: error });
}
