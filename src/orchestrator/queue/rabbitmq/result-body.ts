/** The body of a result's message. */
import type { JobResult } from "../../../shared/job.ts";

/**
 * The result as JSON, then with fewer and fewer lines of its log's tail, for a broker that accepts only smaller messages.
 * A line in brackets says how many are missing.
 */
export function* shrinkingBodies(result: JobResult): Generator<Buffer> {
  yield Buffer.from(JSON.stringify(result));
  for (let kept = Math.floor(result.logs.length / 2); result.logs.length > 0; kept = Math.floor(kept / 2)) {
    const missing = result.logs.length - kept;
    const note = `[${missing} lines left out: RabbitMQ accepts no message that is as large]`;
    const logs = [note, ...result.logs.slice(missing)];
    yield Buffer.from(JSON.stringify({ ...result, logs }));
    if (kept === 0) return;
  }
}
