/** Submits a job and waits for it. */
import type { Environment } from "../shared/env.ts";
import { EXIT, type ExitStatus } from "../shared/settings/command-line.ts";
import { withVisibleCharacters } from "../shared/visible-text.ts";
import type { ApiClient } from "./api-client.ts";
import { followJob } from "./follow-job.ts";
import { describeResult } from "./job-view.ts";
import { printJson, printText } from "./usage.ts";
import { hintWhileWaiting } from "./waiting-hint.ts";

interface Waiting {
  readonly api: ApiClient;
  readonly jobId: string;
  /** Resolves when the job is accepted. */
  submit(): Promise<void>;
  readonly isJson: boolean;
  readonly environment: Environment;
}

export async function waitForJob({ api, jobId, submit, isJson }: Waiting): Promise<ExitStatus> {
  await submit();
  // With --json, only the result goes to standard output.
  const print = isJson ? (text: string) => console.error(withVisibleCharacters(text)) : printText;
  print(`job ${jobId}`);
  const stopHint = hintWhileWaiting(api, jobId, print);
  const result = await followJob(api, jobId, {
    line: print,
    state: (name) => {
      stopHint();
      print(`--- ${name}`);
    },
  }).finally(stopHint);
  if (isJson) printJson(result);
  else printText(describeResult(result));
  return result.status === "SUCCESS" ? EXIT.done : EXIT.failed;
}
