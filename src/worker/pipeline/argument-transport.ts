import { type ArgumentTransport, argumentTransport } from "../buildkit/build-args.ts";
import { cacheScope } from "../buildkit/cache-scope.ts";
import type { RunContext } from "./run-context.ts";

/** Before the repository is known, since a job that cannot be built need not be cloned. */
export function argumentTransportOf({ job, parts }: Pick<RunContext, "job" | "parts">): ArgumentTransport {
  return argumentTransport({
    bake: parts.builder.bake,
    cgroupParent: parts.buildCgroup?.path,
    cacheScope: cacheScope(job, "", parts.cacheSharing),
  });
}
