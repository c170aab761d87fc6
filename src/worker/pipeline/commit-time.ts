import type { ChildEnvironment } from "./child-environment.ts";
import { runInGroup } from "./process-group.ts";

/** When the checked out commit was made. Undefined for a time that no calendar has: a commit may claim anything. */
export async function commitTime(
  checkout: string,
  environment: ChildEnvironment,
  signal: AbortSignal,
): Promise<Date | undefined> {
  const { exitCode, stdoutTail, stderrTail } = await runInGroup({
    argv: ["git", "show", "--no-patch", "--format=%ct", "HEAD"],
    cwd: checkout,
    environment: { ...environment, GIT_CONFIG_NOSYSTEM: "1", GIT_ALLOW_PROTOCOL: "none" },
    signal,
  });
  if (exitCode !== 0) throw new Error(`git cannot show the commit: ${stderrTail.join(" ")}`);
  const time = new Date(Number(stdoutTail[0]) * 1000);
  return Number.isNaN(time.getTime()) ? undefined : time;
}
