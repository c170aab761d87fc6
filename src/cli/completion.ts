/** `blacktree completion SHELL`: a script that asks the hidden command `__complete` for the words that may follow. */
import { Argument, Command, type Option } from "commander";
import type { Environment } from "../shared/env.ts";
import { JOB_STATES } from "../shared/job.ts";
import { EXIT } from "../shared/settings/command-line.ts";
import { withVisibleCharacters } from "../shared/visible-text.ts";
import { JOBS, WORKERS } from "./api/shapes.ts";
import {
  type Candidate,
  type CompletionShell,
  FILES,
  formatCandidates,
  joinedWords,
  SCRIPTS,
  SHELLS,
} from "./completion-shells.ts";
import type { ListedJob } from "./jobs.ts";
import { printRaw } from "./stdout.ts";
import { type ApiOptions, apiClient, type MakeCommand } from "./usage.ts";

export const completionCommand: MakeCommand = (_, finish) =>
  new Command("completion")
    .description("print a script that completes commands, flags and ids")
    .addArgument(new Argument("<shell>", "the shell").choices(SHELLS))
    .addHelpText(
      "after",
      `
Examples:
  source <(blacktree completion bash)
  blacktree completion bash >/etc/bash_completion.d/blacktree
  blacktree completion zsh >"\${fpath[1]}/_blacktree"
  blacktree completion fish >~/.config/fish/completions/blacktree.fish`,
    )
    .action((shell: CompletionShell) => {
      printRaw(SCRIPTS[shell]);
      finish(EXIT.done);
    });

const TIMEOUT_MS = 1000;

/** Prints nothing if the API does not answer: an error would appear in the line that is typed. */
export const completeCommand: MakeCommand = (environment, finish) => {
  const command = new Command("__complete").argument("<shell>").argument("[words...]");
  return command
    .allowUnknownOption()
    .passThroughOptions()
    .helpOption(false)
    .action(async (shell: CompletionShell, given: string[]) => {
      const { words, taken } = joinedWords(shell, given);
      const found = await candidates(command.parent ?? command, words, environment).catch(() => []);
      const text = found === FILES ? FILES : formatCandidates(shell, found, taken);
      if (text !== "") printRaw(text);
      finish(EXIT.done);
    });
};

/** @param words after the program's name; the last one, which may be empty, is to be completed */
export async function candidates(
  program: Command,
  words: readonly string[],
  environment: Environment,
  timeoutMs = TIMEOUT_MS,
): Promise<readonly Candidate[] | typeof FILES> {
  const current = words.at(-1) ?? "";
  const commands = program.createHelp().visibleCommands(program);
  const command = commands.find((each) => words.length > 1 && each.name() === words[0]);
  if (!command) {
    if (words.length > 1) return [];
    const named = commands.map((each) => ({ value: each.name(), description: each.description() }));
    return matching(current.startsWith("-") ? flagsOf(program) : named, current);
  }
  const line = new TypedLine(command, words.slice(1, -1));
  const assigned = /^(--[^=]+)=(.*)$/s.exec(current);
  const option = line.pending ?? optionOf(command, assigned?.[1]);
  if (option) {
    const values = valuesOf(option, assigned?.[2] ?? current);
    if (values === FILES) return FILES;
    return assigned ? values.map(({ value }) => ({ value: `${assigned[1]}=${value}` })) : values;
  }
  if (current.startsWith("-")) return matching(flagsOf(command), current);
  const argument = command.registeredArguments[line.positionals];
  return argument ? matching(await argumentsOf(argument, line, environment, timeoutMs), current) : [];
}

/** The words of a command before the one to be completed. */
class TypedLine {
  /** The flag whose value is to be completed. */
  readonly pending: Option | undefined;
  readonly positionals: number;
  readonly values: Readonly<Record<string, string>>;

  constructor(
    readonly command: Command,
    words: readonly string[],
  ) {
    const values: Record<string, string> = {};
    let pending: Option | undefined;
    let positionals = 0;
    for (const word of words) {
      const [, flag = word, value] = /^(--[^=]+)=(.*)$/s.exec(word) ?? [];
      const option = pending ? undefined : optionOf(command, flag);
      if (pending) values[pending.attributeName()] = word;
      else if (option && value !== undefined) values[option.attributeName()] = value;
      else if (!option && !word.startsWith("-")) positionals += 1;
      pending = option?.required && value === undefined ? option : undefined;
    }
    this.pending = pending;
    this.positionals = positionals;
    this.values = values;
  }
}

function optionOf(command: Command, flag: string | undefined): Option | undefined {
  return flag === undefined
    ? undefined
    : command.options.find(({ long, short }) => long === flag || short === flag);
}

function flagsOf(command: Command): readonly Candidate[] {
  const options = command.createHelp().visibleOptions(command);
  return options.map((option) => ({ value: option.long ?? option.flags, description: option.description }));
}

function matching(all: readonly Candidate[], current: string): readonly Candidate[] {
  return all.filter(({ value }) => value.startsWith(current));
}

function valuesOf(option: Option, current: string): readonly Candidate[] | typeof FILES {
  if (/[<|=](?:path|file)>/.test(option.flags)) return FILES;
  if (option.long === "--state") {
    const before = current.slice(0, current.lastIndexOf(",") + 1);
    return matching(
      JOB_STATES.map((state) => ({ value: `${before}${state}` })),
      current.toUpperCase(),
    );
  }
  return matching(
    (option.argChoices ?? []).map((value) => ({ value })),
    current,
  );
}

/** Ids are those that the API lists. */
async function argumentsOf(
  argument: Argument,
  { command, values }: TypedLine,
  environment: Environment,
  timeoutMs: number,
): Promise<readonly Candidate[]> {
  if (argument.argChoices) return argument.argChoices.map((value) => ({ value }));
  if (!command.options.some(({ long }) => long === "--api")) return [];
  const list = /\bworker/.test(argument.description) ? listWorkers : listJobs;
  const options = { ...command.opts<ApiOptions>(), ...values };
  return list(apiClient(options, environment, timeoutMs), command.name());
}

type ApiClient = ReturnType<typeof apiClient>;

const LISTED_JOBS = 100;
const UNFINISHED = "QUEUED,ASSIGNED,CLONING,BUILDING,AUTHENTICATING,PUSHING,RETRYING";

async function listJobs(api: ApiClient, command: string): Promise<readonly Candidate[]> {
  const query = new URLSearchParams({ limit: String(LISTED_JOBS) });
  if (command === "cancel" || command === "why") query.set("state", UNFINISHED);
  if (command === "retry") query.set("state", "SUCCEEDED,FAILED,CANCELLED");
  const { items } = await api.get<{ items: ListedJob[] }>(`/api/v1/jobs?${query}`, JOBS);
  return items.map(({ job_id, state, repo_url = "?", branch = "?" }) => ({
    value: job_id,
    description: withVisibleCharacters(`${state} ${repo_url}@${branch}`),
  }));
}

async function listWorkers(api: ApiClient): Promise<readonly Candidate[]> {
  const { items } = await api.get<{ items: Record<"id" | "region" | "status", string>[] }>(
    "/api/v1/workers",
    WORKERS,
  );
  return items.map(({ id, region, status }) => ({ value: id, description: `${status} in ${region}` }));
}
