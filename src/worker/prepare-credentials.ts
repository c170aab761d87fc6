import { orAbort, sleep } from "../shared/abort.ts";
import { describeAwsCredentials } from "../shared/aws/credentials.ts";
import { Backoff } from "../shared/backoff.ts";
import type { Logger } from "../shared/logging.ts";
import { StepFailure } from "./job/failure.ts";
import { findWorkerCredentials } from "./registry/ecr/credentials.ts";
import type { WorkerSettings } from "./settings/config.ts";
import type { WorkerState } from "./worker-state.ts";

interface CredentialsParts {
  readonly settings: Pick<WorkerSettings, "region" | "registry">;
  readonly logger: Logger;
  readonly state: Pick<WorkerState, "waiting">;
}

/**
 * Retries until the host has AWS credentials, if the worker pushes to ECR: without them, each job that it accepted would
 * fail. AWS is not asked whether they are valid, so that a start does not depend on it.
 */
export async function awaitCredentials(parts: CredentialsParts, signal: AbortSignal): Promise<void> {
  const { settings, logger, state } = parts;
  if (settings.registry !== undefined) return;
  const delay = new Backoff({ initialMs: 1000, maxMs: 30_000 });
  while (!signal.aborted) {
    try {
      const credentials = await orAbort(findWorkerCredentials(settings.region), signal);
      logger.info({ source: describeAwsCredentials(credentials) }, "AWS credentials found");
      return;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof StepFailure)) throw error;
      const delayMs = delay.nextMs();
      state.waiting(error.message);
      logger.error(
        { reason: error.message, retry_in_ms: delayMs },
        "no AWS credentials; not registering yet",
      );
      await sleep(delayMs, signal).catch(() => undefined);
    }
  }
}
