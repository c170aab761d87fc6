/** A worker whose runs do nothing in a separate process. Prints its port; its argument is the number of slots. */
import { serveWorker, successfulEnd } from "../../integration/orchestrator/workers/worker-service.ts";

const worker = await serveWorker(
  async (_, reporter) => {
    for (const state of ["CLONING", "BUILDING", "PUSHING"] as const) reporter.state(state);
    return successfulEnd();
  },
  { keptBytes: 1_000_000, tail: { lines: 10, bytes: 1000 } },
  { slots: Number(process.argv[2]) },
);
process.on("SIGTERM", () => void worker.stop(100).then(() => process.exit(0)));
console.log(`port ${worker.port}`);
