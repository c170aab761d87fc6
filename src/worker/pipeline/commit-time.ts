import { simpleGit } from "simple-git";
import { NO_HOST_CONFIG } from "../git/command.ts";
import type { ChildEnvironment } from "../process/child-environment.ts";

const GIT_ENVIRONMENT = { ...NO_HOST_CONFIG, GIT_ALLOW_PROTOCOL: "none" };

/** When the checked out commit was made. Undefined for a time that no calendar has: a commit may claim anything. */
export async function commitTime(
  checkout: string,
  { PATH = "", HOME = "" }: ChildEnvironment,
  signal: AbortSignal,
): Promise<Date | undefined> {
  const git = simpleGit({
    baseDir: checkout,
    abort: signal,
    allowEnvironment: Object.keys(GIT_ENVIRONMENT),
    unsafe: { allowUnsafeProtocolOverride: true },
  });
  // simple-git refuses to pass on more of the environment than it knows.
  const seconds = await git
    .env({ PATH, HOME, ...GIT_ENVIRONMENT })
    .show(["--no-patch", "--format=%ct", "HEAD"]);
  const time = new Date(Number(seconds) * 1000);
  return Number.isNaN(time.getTime()) ? undefined : time;
}
