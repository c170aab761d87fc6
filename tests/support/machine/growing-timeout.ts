import type { JobResult } from "../../../src/shared/job.ts";

/** The first is enough on most machines; a busy machine may use it up before the build's RUN step begins. */
const TIMEOUTS_SECONDS = [6, 30, 120];

/**
 * Runs jobs with growing time limits.
 * @returns the result of the first one whose RUN step was seen
 */
export async function timedOutInStep(
  isInStep: () => Promise<boolean>,
  runJob: (timeoutSeconds: number) => Promise<JobResult>,
): Promise<JobResult> {
  for (const timeoutSeconds of TIMEOUTS_SECONDS) {
    let result: JobResult | undefined;
    const running = runJob(timeoutSeconds).then((ended) => {
      result = ended;
    });
    let wasInStep = false;
    while (!wasInStep && !result) {
      wasInStep = await isInStep();
      await Promise.race([running, Bun.sleep(20)]);
    }
    await running;
    if (wasInStep && result) return result;
  }
  throw new Error(`no RUN step began within ${TIMEOUTS_SECONDS.at(-1)} s`);
}
