/**
 * Settings: read once at start, from flags, then the environment, then defaults; checked together, then frozen.
 * Each program's table is in its config.ts; this file reads such tables.
 */

/** A problem of one setting, worded for the operator. */
export interface SettingProblem {
  readonly name: string;
  /** As given, masked when secret; undefined when it is missing. */
  readonly value: string | undefined;
  readonly wrong: string;
  readonly expected: string;
}

/** A value that does not parse. `expected` completes the sentence "expected …". */
export class BadValue extends Error {
  override readonly name = "BadValue";
  constructor(
    readonly wrong: string,
    readonly expected: string,
  ) {
    super(`${wrong}; expected ${expected}`);
  }
}

/** Lists all wrong settings of a start. */
export class SettingsError extends Error {
  override readonly name = "SettingsError";
  constructor(readonly problems: readonly SettingProblem[]) {
    super(problems.map(describeProblem).join("\n"));
  }
}

function describeProblem(problem: SettingProblem): string {
  const value = problem.value === undefined ? "" : ` = ${JSON.stringify(problem.value)}`;
  return `${problem.name}${value}: ${problem.wrong}; expected ${problem.expected}`;
}

export type Parser<T> = (raw: string) => T;

export interface Setting<T> {
  /** The environment variable; the flag of a public setting is derived from it. */
  readonly name: string;
  readonly description: string;
  readonly parse: Parser<T>;
  /** The raw text used when nothing is given. Neither this nor `optional` means required. */
  readonly fallback?: string;
  /** For `--help` and docs: the default of an optional setting that depends on something else. */
  readonly computedDefault?: string;
  readonly optional?: boolean;
  /** How its value is displayed: in full, masked, or as URLs with masked passwords. Only a public one has a flag. */
  readonly secrecy: "public" | "secret" | "urls";
}

export type SettingTable = Readonly<Record<string, Setting<unknown>>>;

export type SettingValues<Table extends SettingTable> = {
  readonly [Key in keyof Table]: Table[Key] extends Setting<infer Value> ? Value : never;
};

type Shape = Pick<Setting<unknown>, "name" | "description"> & { secrecy?: Setting<unknown>["secrecy"] };
type OptionalShape = Shape & Pick<Setting<unknown>, "computedDefault">;

export function required<T>(shape: Shape, parse: Parser<T>): Setting<T> {
  return { secrecy: "public", ...shape, parse };
}

export function withDefault<T>(shape: Shape, parse: Parser<T>, fallback: string): Setting<T> {
  return { secrecy: "public", ...shape, parse, fallback };
}

export function optional<T>(shape: OptionalShape, parse: Parser<T>): Setting<T | undefined> {
  return { secrecy: "public", ...shape, parse, optional: true };
}

/** `BLACKTREE_GRPC_LISTEN` is `--grpc-listen`. */
export function flagOf(name: string): string {
  return `--${name
    .replace(/^BLACKTREE_/, "")
    .toLowerCase()
    .replaceAll("_", "-")}`;
}

/** Other users of a machine can read the argument lists of its processes. */
export function hasFlag({ secrecy }: Pick<Setting<unknown>, "secrecy">): boolean {
  return secrecy === "public";
}

export interface SettingSources {
  /** By setting name. */
  readonly flags: Readonly<Record<string, string | undefined>>;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** Whether a flag or the environment has a value for it, valid or not. */
export function isGiven({ flags, environment }: SettingSources, name: string): boolean {
  return Boolean(flags[name] || environment[name]);
}

/** An empty value counts as not given, so that `NAME=` in an environment file means "the default". */
function rawValue(setting: Setting<unknown>, sources: SettingSources): string | undefined {
  const given = sources.flags[setting.name] ?? sources.environment[setting.name];
  return given === undefined || given.trim() === "" ? setting.fallback : given.trim();
}

export interface LoadedSettings<Table extends SettingTable> {
  readonly values: SettingValues<Table>;
  /** The effective settings as `NAME=value` lines, secrets masked. */
  readonly lines: readonly string[];
}

/**
 * Reads every setting of `table`, then passes all of them to `check`, where settings that did not parse are undefined.
 * @throws SettingsError with all problems.
 */
export function loadSettings<Table extends SettingTable>(
  table: Table,
  sources: SettingSources,
  check: (values: Partial<SettingValues<Table>>) => readonly SettingProblem[] = () => [],
): LoadedSettings<Table> {
  const problems: SettingProblem[] = [];
  const lines: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [key, setting] of Object.entries(table)) {
    const raw = rawValue(setting, sources);
    if (raw === undefined) {
      if (!setting.optional) problems.push(missing(setting));
      else lines.push(`${setting.name}=`);
      continue;
    }
    lines.push(`${setting.name}=${displayed(setting, raw)}`);
    try {
      values[key] = setting.parse(raw);
    } catch (error) {
      if (!(error instanceof BadValue)) throw error;
      problems.push({
        name: setting.name,
        value: displayed(setting, raw),
        wrong: error.wrong,
        expected: error.expected,
      });
    }
  }
  problems.push(...check(values as Partial<SettingValues<Table>>));
  if (problems.length > 0) throw new SettingsError(problems);
  return { values: Object.freeze(values) as SettingValues<Table>, lines };
}

function missing(setting: Setting<unknown>): SettingProblem {
  const flag = hasFlag(setting) ? `with ${flagOf(setting.name)} or ` : "";
  const expected = `${setting.description}, set ${flag}in the environment`;
  return { name: setting.name, value: undefined, wrong: "is not set", expected };
}

function displayed(setting: Setting<unknown>, raw: string): string {
  return setting.secrecy === "secret" ? "***" : maskUrlPasswords(raw);
}

/**
 * Masks the logins in a list of URLs. Everything from `//` to the last `@` before the next URL counts as a login: in an
 * invalid URL, a password may contain any character. Of the user, only a name of letters, digits and `. _ -` is shown.
 */
export function maskUrlPasswords(text: string): string {
  return text.replace(/\/\/((?:(?!,\s*\w+:\/\/).)*)@/gs, (_, login: string) => {
    const [, user = ""] = /^([\w.-]*):/.exec(login) ?? [];
    return login.includes(":") ? `//${user}:***@` : "//***@";
  });
}
