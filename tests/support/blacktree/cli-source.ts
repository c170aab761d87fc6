/** Commands of `blacktree`, run from source: without the time to compile it. */
import { join } from "node:path";
import { type FinishedProcess, run, startProcess, type TestProcess } from "../machine/processes.ts";

const MAIN = join(import.meta.dir, "../../../src/cli/main.ts");

export interface CliOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

export const CLI_COMMAND: readonly string[] = [process.execPath, MAIN];

export function runCli(args: readonly string[], options: CliOptions = {}): Promise<FinishedProcess> {
  return run([...CLI_COMMAND, ...args], { ...options, env: { ...options.env }, mayFail: true });
}

export function startCli(args: readonly string[], options: CliOptions = {}): TestProcess {
  return startProcess([...CLI_COMMAND, ...args], { ...options, env: { ...options.env } });
}
