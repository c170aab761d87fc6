/** Builds that print a given number of lines. */
import { staticBusybox } from "../machine/sample-repository.ts";
import type { Backends } from "../servers/backends.ts";
import { type SampleJob, sampleJob } from "./fault-site.ts";

/** An engine whose BuildKit does not limit the output of a step. */
export const UNLIMITED_OUTPUT = {
  daemonEnv: { BUILDKIT_STEP_LOG_MAX_SIZE: "-1", BUILDKIT_STEP_LOG_MAX_SPEED: "-1" },
};

/** With its newline. */
export const LINE_BYTES = 500;

/** Lines of `LINE_BYTES` that begin with their numbers, from 0 on. */
const PRINT_LINES = [
  `BEGIN { pad = sprintf("%${LINE_BYTES - 10}s", "");`,
  'for (n = from; n < to; n++) printf "%08d %s\\n", n, pad }',
].join(" ");

/** A job whose image has one step, which prints this number of lines. */
export async function jobPrinting(
  backends: Pick<Backends, "git" | "aws">,
  lines: number,
): Promise<SampleJob> {
  const job = await sampleJob(backends, { variant: "none" });
  const dockerfile = [
    "FROM scratch",
    "COPY bin/busybox /bin/busybox",
    "COPY step print.awk /",
    'RUN ["/bin/busybox", "sh", "/step"]',
    "",
  ].join("\n");
  // BuildKit discards output that is not read within 3 seconds after the end, so it must not be far behind.
  const step = `# ${job.job_id}
    n=0
    while [ $n -lt ${lines} ]; do
      /bin/busybox awk -v from=$n -v to=$((n += 10000)) -f /print.awk
      /bin/busybox sleep 0.5
    done
    /bin/busybox sleep 5
  `;
  const files = { "bin/busybox": await staticBusybox(), "print.awk": PRINT_LINES, step };
  await backends.git.commit(job.repo_url, { ...files, Dockerfile: dockerfile });
  return job;
}
