/** `blacktree logs ID`: prints the log of a job; with -f, follows it. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { EXIT } from "../shared/settings/command-line.ts";
import { ApiError } from "./api/error.ts";
import { type FollowSink, followJob } from "./follow-job.ts";
import { withJob } from "./job-id.ts";
import { copyToStdout, printJson, printRaw, printText } from "./stdout.ts";
import { type ApiOptions, apiClient, apiCommand, type MakeCommand } from "./usage.ts";

type Format = "text" | "json" | "raw";

interface LogsOptions extends ApiOptions {
  readonly follow?: true;
  readonly attempt?: string;
  readonly grep?: string;
  readonly ignoreCase?: true;
  readonly tail?: string;
  readonly format?: Format;
}

/** As the admin API answers. */
const CONTENT_TYPES: Readonly<Record<Format, string>> = {
  text: "text/plain",
  raw: "application/octet-stream",
  json: "application/x-ndjson",
};

/** Parameters of the request, by their names in it and in the options. */
const PARAMETERS = ["attempt", "grep", "tail"] as const;

export const logsCommand: MakeCommand = (environment, finish) =>
  logOptions(apiCommand("logs", environment))
    .description("print the log of a job, or follow it until the job ends")
    .argument("<id>", "the job's id, or the beginning of it")
    .addHelpText(
      "after",
      `
Examples:
  blacktree logs 4b1f2c9e                       the log so far
  blacktree logs -f 4b1f2c9e                    until the job ends
  blacktree logs 4b1f2c9e --grep ERROR --tail 20
  blacktree logs 4b1f2c9e --format json >log.ndjson`,
    )
    .action(async (given: string, options: LogsOptions) => {
      const api = apiClient(options, environment);
      const format = options.format ?? (options.json ? "json" : "text");
      const query = new URLSearchParams();
      for (const name of PARAMETERS) if (options[name] !== undefined) query.set(name, options[name]);
      if (options.ignoreCase) query.set("ignore_case", "true");
      try {
        await withJob(api, given, async (id) => {
          if (options.follow) return void (await followJob(api, id, sinkOf(format), query));
          query.set("format", format);
          const path = `/api/v1/jobs/${encodeURIComponent(id)}/logs?${query}`;
          await copyToStdout(await api.read(path, CONTENT_TYPES[format]));
        });
      } catch (error) {
        throw error instanceof ApiError ? error.withFlags((field) => `--${field}`) : error;
      }
      finish(EXIT.done);
    });

function logOptions(command: Command): Command {
  return command
    .option("-f, --follow", "until the job ends")
    .addOption(new Option("--attempt <number>", "only of this attempt").argParser(wholeNumber))
    .option("--grep <text>", "only lines that contain this text")
    .option("-i, --ignore-case", "of --grep")
    .addOption(new Option("--tail <number>", "only the last lines").argParser(wholeNumber))
    .addOption(
      new Option(
        "--format <format>",
        "json: one object for each line; raw: invisible characters as they are",
      ).choices(["text", "json", "raw"]),
    );
}

function wholeNumber(text: string): string {
  if (/^[1-9]\d{0,8}$/.test(text)) return text;
  throw new InvalidArgumentError("Expected a whole number from 1 on.");
}

function sinkOf(format: Format): FollowSink {
  const print = (line: string) => {
    if (format === "raw") printRaw(line);
    else printText(line);
  };
  if (format !== "json") return { line: print, state: () => undefined, step: () => undefined };
  return {
    line: (line) => printJson({ line }),
    state: (state) => printJson({ state }),
    step: (step) => printJson({ step }),
  };
}
