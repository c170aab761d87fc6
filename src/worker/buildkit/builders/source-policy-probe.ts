import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import type { ChildEnvironment } from "../../process/child-environment.ts";
import { runInGroup } from "../../process/process-group.ts";
import { deniedSource, sourcePolicyEnvironment, writeSourcePolicy } from "../source-policy.ts";

export interface PolicyProbe {
  readonly buildxPath: string;
  /** Selects the BuildKit. */
  readonly environment: ChildEnvironment;
  /** A folder that is removed after the probe. */
  readonly scratch: string;
  readonly signal: AbortSignal;
}

const PROBE_TIMEOUT_MS = 60_000;
/** A BuildKit that ignores the policy connects to a closed port of its own machine. */
const DOCKERFILE = "FROM scratch\nADD http://127.0.0.1:1/ /\n";

export const POLICY_REMEDY =
  "BLACKTREE_BUILD_NETWORK=none needs buildx with Docker 25 or newer, or a BuildKit of version 0.12 or newer (BLACKTREE_BUILDER)";

/** BuildKit 0.10 ignores a policy, and 0.11 may mix up the order of its rules. @throws Error for these versions. */
export function requirePolicyOrder(version: string): void {
  const minor = /^v?0\.(\d+)\./.exec(version)?.[1];
  if (minor !== undefined && Number(minor) < 12)
    throw new Error(`BuildKit ${version} is too old. ${POLICY_REMEDY}`);
}

/** A BuildKit without policies ignores one silently. @throws Error unless BuildKit refuses a source because of the policy. */
export async function requireSourcePolicy({ buildxPath, environment, ...probe }: PolicyProbe): Promise<void> {
  const context = await mkdtemp(join(probe.scratch, "policy-"));
  const policy = join(probe.scratch, "source-policy.json");
  await Bun.write(join(context, "Dockerfile"), DOCKERFILE);
  await writeSourcePolicy(policy);
  const { stderrTail } = await runInGroup({
    argv: [buildxPath, "build", "--progress=plain", "--provenance=false", context],
    cwd: probe.scratch,
    environment: { ...environment, ...sourcePolicyEnvironment(policy) },
    signal: AbortSignal.any([probe.signal, AbortSignal.timeout(PROBE_TIMEOUT_MS)]),
  });
  const error = stderrTail.findLast((line) => line.startsWith("ERROR: ")) ?? stderrTail.join(" ");
  if (deniedSource(error) !== undefined) return;
  throw new Error(`BuildKit does not deny the sources of builds: ${error}. ${POLICY_REMEDY}`);
}
