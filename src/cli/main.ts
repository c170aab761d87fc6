/** blacktree: the operator's commands, and `up`, the whole system in one process. */
import { CommanderError } from "commander";
import { environment, unifyProxies } from "../shared/env.ts";
import { EXIT, type ExitStatus } from "../shared/settings/command-line.ts";
import { SettingsError } from "../shared/settings/settings.ts";
import { withVisibleCharacters } from "../shared/visible-text.ts";
import { ApiError } from "./api/error.ts";
import { isJsonRequested, makeProgram, printErrorJson } from "./program.ts";
import { OutputFailed } from "./stdout.ts";
import { WrongUsage } from "./wrong-usage.ts";

async function main(argv: readonly string[]): Promise<ExitStatus> {
  let status: ExitStatus = EXIT.done;
  const isJson = isJsonRequested(argv);
  const finish = (result: ExitStatus) => {
    status = result;
  };
  try {
    await makeProgram(environment(), finish, isJson).parseAsync(argv, { from: "user" });
    return status;
  } catch (error) {
    return report(error, isJson);
  }
}

function report(error: unknown, isJson: boolean): ExitStatus {
  // commander has already printed the error, or without a command the help, which is wrong usage too.
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
  if (error instanceof OutputFailed && error.isReaderGone) return EXIT.failed;
  const isUsage = error instanceof SettingsError || error instanceof WrongUsage;
  const isReadable = error instanceof ApiError || error instanceof OutputFailed || isUsage;
  const text = isReadable ? (error as Error).message : String(error);
  if (isJson) printErrorJson(error instanceof ApiError ? error : new Error(text));
  else if (error instanceof SettingsError) console.error(`blacktree: wrong settings\n${text}`);
  else console.error(`blacktree: ${withVisibleCharacters(text)}`);
  return isUsage ? EXIT.usage : EXIT.failed;
}

unifyProxies();
process.exit(await main(process.argv.slice(2)));
