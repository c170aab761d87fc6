/** The commands of `blacktree`, in the groups of its help. */
import { Command } from "commander";
import type { Environment } from "../shared/env.ts";
import { type ExitStatus, hideValuesOfUnknownFlags, PRINTED } from "../shared/settings/command-line.ts";
import { describeVersion } from "../shared/version.ts";
import { toVisibleJson } from "../shared/visible-text.ts";
import { ApiError } from "./api/error.ts";
import { cancelCommand } from "./cancel.ts";
import { completeCommand, completionCommand } from "./completion.ts";
import { drainCommand } from "./drain.ts";
import { jobCommand } from "./job.ts";
import { jobsCommand } from "./jobs.ts";
import { logsCommand } from "./logs.ts";
import { pauseCommand } from "./pause.ts";
import { regionsCommand } from "./regions.ts";
import { resumeCommand } from "./resume.ts";
import { retryCommand } from "./retry.ts";
import { statusCommand } from "./status.ts";
import { printRaw } from "./stdout.ts";
import { submitCommand } from "./submit.ts";
import { upCommand } from "./up.ts";
import type { MakeCommand } from "./usage.ts";
import { whyCommand } from "./why.ts";
import { workersCommand } from "./workers.ts";

const GROUPS: Readonly<Record<string, readonly MakeCommand[]>> = {
  "Jobs:": [submitCommand, jobsCommand, jobCommand, logsCommand, whyCommand, cancelCommand, retryCommand],
  "Orchestrator and workers:": [
    statusCommand,
    workersCommand,
    regionsCommand,
    pauseCommand,
    drainCommand,
    resumeCommand,
  ],
  "This machine:": [upCommand, completionCommand],
};

/** @param finish receives the exit status of the command's action */
export function makeProgram(
  environment: Environment,
  finish: (status: ExitStatus) => void,
  isJson = false,
): Command {
  const program = new Command("blacktree")
    .configureOutput({ ...PRINTED, writeOut: (text) => printRaw(text.trimEnd()) })
    .description(
      "Builds container images on your own hosts: submit and inspect jobs, or run everything on one machine.",
    )
    .version(describeVersion("blacktree"), "-V, --version", "print version, commit and Bun version")
    .enablePositionalOptions()
    .exitOverride();
  hideValuesOfUnknownFlags(program);
  if (isJson) reportAsJson(program);
  for (const [group, commands] of Object.entries(GROUPS)) {
    for (const make of commands) {
      const command = make(environment, finish).copyInheritedSettings(program).helpGroup(group);
      if (!isJson) command.showHelpAfterError(`blacktree ${command.name()} --help lists arguments and flags`);
      program.addCommand(command);
    }
  }
  return program.addCommand(completeCommand(environment, finish).copyInheritedSettings(program), {
    hidden: true,
  });
}

/** Errors are JSON if the output is. The text after `--` is not a flag. */
export function isJsonRequested(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  return (end < 0 ? argv : argv.slice(0, end)).includes("--json");
}

function reportAsJson(program: Command): void {
  const { outputError } = program.configureOutput();
  program.configureOutput({
    outputError: (text) =>
      outputError?.(text, (shown) => printErrorJson(new Error(shown.trim().replace(/^error: /, "")))),
  });
}

export function printErrorJson(error: Error): void {
  const { status, problem } = error instanceof ApiError ? error : {};
  console.error(toVisibleJson({ error: error.message, status, errors: problem?.errors }));
}
