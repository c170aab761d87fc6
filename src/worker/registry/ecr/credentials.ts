import {
  type AwsCredentials,
  findAwsCredentials,
  NoAwsCredentials,
} from "../../../shared/aws/credentials.ts";
import { StepFailure } from "../../job/failure.ts";

/** @throws StepFailure ECR_AUTH, retryable if the source may have credentials later */
export async function findWorkerCredentials(region: string): Promise<AwsCredentials> {
  try {
    return await findAwsCredentials(region);
  } catch (cause) {
    if (!(cause instanceof NoAwsCredentials)) throw cause;
    const { message, mayPass: retryable } = cause;
    throw new StepFailure({ code: "ECR_AUTH", step: "authenticate", message, retryable, cause });
  }
}
