/** Command line of both daemons: settings as flags, `--check-config`, `--version`, exit statuses. */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { Command, CommanderError, Option } from "commander";
import { describeVersion } from "../version.ts";
import { parseEnvironmentFile } from "./environment-file.ts";
import {
  flagOf,
  hasFlag,
  type LoadedSettings,
  type Setting,
  type SettingSources,
  SettingsError,
  type SettingTable,
} from "./settings.ts";

export const EXIT = { done: 0, failed: 1, usage: 2 } as const;
export type ExitStatus = (typeof EXIT)[keyof typeof EXIT];

/**
 * For commander. Unlike process.stdout, the console writes everything before the process exits, and a reader that is
 * gone is not an error.
 */
export const PRINTED = {
  writeOut: (text: string) => console.log(text.trimEnd()),
  writeErr: (text: string) => console.error(text.trimEnd()),
};

export interface Daemon<Table extends SettingTable> {
  readonly name: string;
  readonly description: string;
  readonly table: Table;
  load(sources: SettingSources): LoadedSettings<Table>;
  /** The variables that the systemd unit of this instance, such as "us-east-1", sets itself. */
  unitEnvironment(instance: string): Readonly<Record<string, string>>;
  /** Runs until the process receives a stop signal. */
  run(settings: LoadedSettings<Table>["values"]): Promise<ExitStatus>;
}

/** Parses `argv` (without the program's name), then runs the daemon, or prints help, version or settings. */
export async function runDaemon<Table extends SettingTable>(
  daemon: Daemon<Table>,
  argv: readonly string[],
  environment: SettingSources["environment"],
): Promise<ExitStatus> {
  const command = new Command(daemon.name)
    .configureOutput(PRINTED)
    .description(daemon.description)
    .version(describeVersion(daemon.name), "-V, --version", "print version, commit and Bun version")
    .option("--check-config", "print the effective settings, secrets masked, and exit")
    .option(
      "--env-file <file>",
      `with --check-config: read the file of a service, such as ${settingsFile(daemon.name)}, instead of the environment`,
    )
    .allowExcessArguments(false);
  addSettingFlags(command, daemon.table);
  const parsed = parse(command, argv);
  if (parsed !== "parsed") return parsed;

  const { checkConfig, envFile } = command.opts<{ checkConfig?: boolean; envFile?: string }>();
  let loaded: LoadedSettings<Table>;
  try {
    if (envFile !== undefined && !checkConfig) throw new WrongUsage("--env-file requires --check-config");
    const effective = envFile === undefined ? environment : serviceEnvironment(daemon, envFile);
    loaded = daemon.load({ flags: settingFlags(command, daemon.table), environment: effective });
  } catch (error) {
    if (!(error instanceof SettingsError || error instanceof WrongUsage)) throw error;
    const problem = error instanceof SettingsError ? `wrong settings\n${error.message}` : error.message;
    console.error(`${daemon.name}: ${problem}`);
    return EXIT.usage;
  }
  if (checkConfig) {
    console.log(loaded.lines.join("\n"));
    return EXIT.done;
  }
  return daemon.run(loaded.values);
}

class WrongUsage extends Error {
  override readonly name = "WrongUsage";
}

/** Of the service without a region. That of another one is named `<role>-<region>.env`. */
function settingsFile(program: string): string {
  return `/etc/blacktree/${roleOf(program)}.env`;
}

function roleOf(program: string): string {
  return program.replace(/^blacktree-/, "");
}

/** As systemd sets it: variables of the unit, then those of the file. */
function serviceEnvironment(
  { name, unitEnvironment }: Pick<Daemon<SettingTable>, "name" | "unitEnvironment">,
  path: string,
): SettingSources["environment"] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const remedy = code === "EACCES" ? "; run this as root" : "";
    throw new WrongUsage(`--env-file ${path}: cannot be read (${code})${remedy}`);
  }
  const fileName = basename(path, ".env");
  const prefix = `${roleOf(name)}-`;
  const ofUnit = fileName.startsWith(prefix) ? unitEnvironment(fileName.slice(prefix.length)) : {};
  return { ...ofUnit, ...parseEnvironmentFile(text) };
}

export function addSettingFlags(command: Command, table: SettingTable): void {
  for (const setting of Object.values(table)) {
    if (hasFlag(setting)) command.option(`${flagOf(setting.name)} <value>`, describe(setting, setting.name));
    else refuseFlagOf(command, setting.name);
  }
  const withoutFlag = Object.values(table).filter((setting) => !hasFlag(setting));
  const lines = withoutFlag.map((setting) => `  ${setting.name}: ${describe(setting)}`);
  command.addHelpText("after", `\nIn the environment only:\n${lines.join("\n")}`);
}

function describe(setting: Setting<unknown>, name?: string): string {
  const value = setting.fallback || setting.computedDefault;
  const details = [name, value && `default ${value}`].filter(Boolean).join("; ");
  return details === "" ? setting.description : `${setting.description} (${details})`;
}

/**
 * Makes the flag that this setting would have wrong usage. The error names the variable, and does not show the value,
 * as that of an unknown flag would. It is an option for the parser, so that it consumes its value too.
 */
export function refuseFlagOf(command: Command, name: string): void {
  const flag = flagOf(name);
  const reason = "other users of this machine could read the value";
  const refuse = () =>
    command.error(`error: ${flag} is not a flag: ${reason}; set ${name} in the environment`);
  command.addOption(new Option(`${flag} [value]`).hideHelp().preset("").argParser(refuse));
}

/** The values of the flags that addSettingFlags added, by setting name. */
export function settingFlags(command: Command, table: SettingTable): Record<string, string | undefined> {
  const withFlag = Object.values(table).filter(hasFlag);
  return Object.fromEntries(withFlag.map(({ name }) => [name, flagValue(command, flagOf(name))]));
}

/** The value given with a flag such as `--job-id`; undefined without one. */
export function flagValue(command: Command, flag: string): string | undefined {
  return command.getOptionValue(new Option(flag).attributeName());
}

const UNKNOWN_FLAG_WITH_VALUE = /^(error: unknown option '[^=']+)=.*'(?=\n)/s;

/** A mistyped flag can have a secret as its value: `--admn-token=…`. */
export function hideValuesOfUnknownFlags(command: Command): void {
  command.configureOutput({
    outputError: (text, write) => write(text.replace(UNKNOWN_FLAG_WITH_VALUE, "$1=…'")),
  });
}

/** For wrong usage commander would end the process with status 1; Blacktree's status is 2. */
function parse(command: Command, argv: readonly string[]): "parsed" | ExitStatus {
  hideValuesOfUnknownFlags(command);
  command.exitOverride();
  try {
    command.parse(argv, { from: "user" });
    return "parsed";
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? EXIT.done : EXIT.usage;
  }
}
