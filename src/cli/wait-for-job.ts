/** Submits a job and waits for it, until Ctrl-C. */
import type { Environment } from "../shared/env.ts";
import type { JobResult } from "../shared/job.ts";
import { EXIT, type ExitStatus } from "../shared/settings/command-line.ts";
import { withVisibleCharacters } from "../shared/visible-text.ts";
import type { ApiClient } from "./api/client.ts";
import { ApiError } from "./api/error.ts";
import { followJob, resultOf } from "./follow-job.ts";
import { type JobProgress, LiveProgress, plainProgress } from "./job-progress.ts";
import { describeResult } from "./job-view.ts";
import { printJson, printRaw, printText } from "./stdout.ts";
import { hintWhileWaiting } from "./waiting-hint.ts";

interface Waiting {
  readonly api: ApiClient;
  readonly jobId: string;
  /** Resolves when the job is accepted. */
  submit(): Promise<void>;
  readonly isJson: boolean;
  readonly environment: Environment;
}

export async function waitForJob(waiting: Waiting): Promise<ExitStatus> {
  const { api, jobId, isJson } = waiting;
  // With --json, only the result goes to standard output.
  const progress = progressOn(isJson ? "stderr" : "stdout", waiting.environment);
  let isAccepted = false;
  const stop = () => {
    progress.close();
    console.error(describeInterrupted(jobId, isAccepted));
    process.exit(EXIT.failed);
  };
  process.once("SIGINT", stop);
  try {
    await waiting.submit();
    isAccepted = true;
    progress.note(`job ${jobId}`);
    const result = await follow(api, jobId, progress);
    progress.close();
    if (isJson) printJson(result);
    else printText(describeResult(result));
    return result.status === "SUCCESS" ? EXIT.done : EXIT.failed;
  } finally {
    progress.close();
    process.off("SIGINT", stop);
  }
}

async function follow(api: ApiClient, jobId: string, progress: JobProgress): Promise<JobResult> {
  const stopHint = hintWhileWaiting(api, jobId, (text) => progress.note(text));
  try {
    return await followJob(api, jobId, {
      line: (text) => progress.line(text),
      step: (step) => progress.step(step),
      state(name) {
        stopHint();
        progress.state(name);
      },
    });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    // A job whose log cannot be read has a result, too, once it has ended.
    const result = await resultOf(api, jobId).catch(() => null);
    if (!result) throw error;
    progress.note(`blacktree: ${error.message}`);
    return result;
  } finally {
    stopHint();
  }
}

function describeInterrupted(jobId: string, isAccepted: boolean): string {
  if (!isAccepted)
    return `\nblacktree: the job may have been accepted; blacktree job ${jobId} shows it if it was`;
  return `\nblacktree: no longer waiting; the job continues
  blacktree logs -f ${jobId}   follows it again
  blacktree cancel ${jobId}    cancels it`;
}

function progressOn(name: "stdout" | "stderr", { TERM }: Environment): JobProgress {
  const stream = process[name];
  const print = (text: string) => (name === "stdout" ? printRaw(text) : console.error(text));
  if (!stream.isTTY || TERM === "dumb") return plainProgress((text) => print(withVisibleCharacters(text)));
  const terminal = {
    print,
    // A terminal without a known size reports 0.
    get columns() {
      return stream.columns || 80;
    },
    get rows() {
      return stream.rows || 24;
    },
  };
  return new LiveProgress(terminal, stream.hasColors());
}
