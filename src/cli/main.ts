/** blacktree: the operator's commands, and `up`, the whole system in one process. */
import { Command, CommanderError } from "commander";
import { environment, unifyProxies } from "../shared/env.ts";
import { EXIT, type ExitStatus, hideValuesOfUnknownFlags, PRINTED } from "../shared/settings/command-line.ts";
import { SettingsError } from "../shared/settings/settings.ts";
import { describeVersion } from "../shared/version.ts";
import { withVisibleCharacters } from "../shared/visible-text.ts";
import { ApiError } from "./api-client.ts";
import { cancelCommand } from "./cancel.ts";
import { drainCommand } from "./drain.ts";
import { jobCommand } from "./job.ts";
import { jobsCommand } from "./jobs.ts";
import { logsCommand } from "./logs.ts";
import { pauseCommand } from "./pause.ts";
import { regionsCommand } from "./regions.ts";
import { resumeCommand } from "./resume.ts";
import { retryCommand } from "./retry.ts";
import { statusCommand } from "./status.ts";
import { submitCommand } from "./submit.ts";
import { upCommand } from "./up.ts";
import { whyCommand } from "./why.ts";
import { workersCommand } from "./workers.ts";
import { WrongUsage } from "./wrong-usage.ts";

const COMMANDS = [
  upCommand,
  submitCommand,
  jobsCommand,
  jobCommand,
  logsCommand,
  cancelCommand,
  retryCommand,
  whyCommand,
  workersCommand,
  drainCommand,
  pauseCommand,
  resumeCommand,
  regionsCommand,
  statusCommand,
];

async function main(argv: readonly string[]): Promise<ExitStatus> {
  let status: ExitStatus = EXIT.done;
  const finish = (result: ExitStatus) => {
    status = result;
  };
  const program = new Command("blacktree")
    .configureOutput(PRINTED)
    .description(
      "Builds container images on your own hosts: submit and inspect jobs, or run everything on one machine.",
    )
    .version(describeVersion("blacktree"), "-V, --version", "print version, commit and Bun version")
    .enablePositionalOptions()
    .exitOverride();
  hideValuesOfUnknownFlags(program);
  for (const make of COMMANDS) {
    program.addCommand(make(environment(), finish).copyInheritedSettings(program));
  }
  try {
    await program.parseAsync(argv, { from: "user" });
    return status;
  } catch (error) {
    return report(error);
  }
}

function report(error: unknown): ExitStatus {
  // commander has already printed the error, or without a command the help, which is wrong usage too.
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
  if (error instanceof SettingsError) {
    console.error(`blacktree: wrong settings\n${error.message}`);
    return EXIT.usage;
  }
  if (error instanceof WrongUsage) {
    console.error(`blacktree: ${error.message}`);
    return EXIT.usage;
  }
  const message = error instanceof ApiError ? error.message : String(error);
  console.error(`blacktree: ${withVisibleCharacters(message)}`);
  return EXIT.failed;
}

unifyProxies();
process.exit(await main(process.argv.slice(2)));
