/** The flags of `blacktree submit` that fill fields of the job. Their values are checked as the orchestrator does. */
import { type Command, Option } from "commander";
import { JOB_FIELDS } from "../orchestrator/job/fields.ts";
import type { Environment } from "../shared/env.ts";
import { flagValue } from "../shared/settings/command-line.ts";
import { duration } from "../shared/settings/parsers.ts";
import { BadValue } from "../shared/settings/settings.ts";

export type JobMessage = Readonly<Record<string, unknown>>;

interface FieldFlag {
  readonly flag: string;
  readonly field: string;
  readonly value: string;
  readonly description: string;
  readonly kind: "text" | "json" | "boolean" | "duration" | "list" | "map" | "choice";
  readonly choices?: readonly string[];
}

/** Fields without one hold secrets: secret-flags.ts. */
export const FIELD_FLAGS: readonly FieldFlag[] = [
  text("repo", "repo_url", "repository", "owner/name, or a full https:// URL"),
  text("branch", "branch", "ref", "branch, tag, whole ref or full commit id"),
  text("commit", "commit", "id", "full id of the commit to build instead of the tip"),
  text("version", "deployment_version", "tag", "tag of the image"),
  text("account", "aws_account", "digits", "AWS account of the registry"),
  text("ecr-repo", "ecr_repo", "name", "ECR repository"),
  text("region", "region", "region", "AWS region of the registry"),
  text("tenant", "tenant", "name", "on whose behalf, default: the account"),
  text("job-id", "job_id", "id", "id to use instead of a generated one"),
  text("worker-region", "worker_region", "region", "worker region that builds the image"),
  choice(
    "region-policy",
    "region_policy",
    ["prefer", "require"],
    "whether other worker regions may build it",
  ),
  choice("priority", "priority", ["low", "normal", "high"], "before or after other waiting jobs"),
  flag(
    "timeout",
    "timeout_seconds",
    "duration",
    "limit of one attempt: 10m, or a number of seconds",
    "duration",
  ),
  text(
    "supersede",
    "supersede",
    "key",
    "cancels the tenant's earlier jobs with this key, such as owner/name/main",
  ),
  text("dockerfile", "dockerfile", "path", "path of the Dockerfile"),
  text("context", "context", "path", "path of the build context"),
  text("target", "target", "stage", "build stage"),
  map(
    "build-arg",
    "build_args",
    "name=value",
    "build argument, repeatable; a name alone: value of that variable",
  ),
  map("label", "labels", "name=value", "label of the image, repeatable"),
  flag("platform", "platforms", "platforms", "such as linux/amd64,linux/arm64; repeatable", "list"),
  flag("git-depth", "git_depth", "number", "number of commits in .git, 0 for all, default: 1", "json"),
  flag("git-tags", "git_tags", "boolean", ".git also contains the tags of its commits", "boolean"),
  flag("provenance", "provenance", "boolean", "adds BuildKit's attestation", "boolean"),
  choice(
    "reuse",
    "reuse",
    ["never", "same-commit"],
    "whether an earlier image of the same commit may be tagged",
  ),
];

function flag(
  name: string,
  field: string,
  value: string,
  description: string,
  kind: FieldFlag["kind"],
): FieldFlag {
  return { flag: `--${name}`, field, value, description, kind };
}

function text(name: string, field: string, value: string, description: string): FieldFlag {
  return flag(name, field, value, description, "text");
}

function map(name: string, field: string, value: string, description: string): FieldFlag {
  return flag(name, field, value, description, "map");
}

function choice(name: string, field: string, choices: readonly string[], description: string): FieldFlag {
  return { ...flag(name, field, "choice", description, "choice"), choices };
}

export function addFieldFlags(command: Command): void {
  for (const each of FIELD_FLAGS) command.addOption(optionOf(each));
}

function optionOf({ flag: name, field, value, description, kind, choices }: FieldFlag): Option {
  const isOptional = kind === "boolean";
  const option = new Option(
    `${name} ${isOptional ? `[${value}]` : `<${value}>`}`,
    `${description} (${field})`,
  );
  if (isOptional) return option.choices(["true", "false"]).preset("true");
  if (choices) return option.choices(choices);
  if (kind === "list" || kind === "map")
    return option.argParser((given: string, before: readonly string[] = []) => [...before, given]);
  return option;
}

export interface FlaggedFields {
  readonly fields: JobMessage;
  /** One for each wrong value. */
  readonly problems: readonly string[];
}

/** The fields that flags set. An object in the file, such as `build_args`, keeps the names that no flag has. */
export function flaggedFields(
  command: Command,
  fromFile: JobMessage,
  environment: Environment,
): FlaggedFields {
  const problems: string[] = [];
  const fields: Record<string, unknown> = {};
  for (const each of FIELD_FLAGS) {
    const given = flagValue(command, each.flag) as string | readonly string[] | undefined;
    if (given === undefined) continue;
    try {
      const value = readValue(each, given, environment);
      problems.push(...problemsOf(each.flag, each.field, value));
      fields[each.field] =
        each.kind === "map" ? { ...Object(fromFile[each.field]), ...Object(value) } : value;
    } catch (error) {
      if (!(error instanceof BadValue)) throw error;
      fields[each.field] = given;
      problems.push(`${each.flag} (${each.field}): ${error.message}`);
    }
  }
  return { fields, problems };
}

/** `repo_url` has none here: which hosts are allowed is a setting of the orchestrator. */
export function problemsOf(flagName: string, field: string, value: unknown): readonly string[] {
  const schema = Object.entries(JOB_FIELDS.shape).find(([name]) => name === field)?.[1];
  const issues = schema?.safeParse(value).error?.issues ?? [];
  return [...new Set(issues.map(({ message }) => `${flagName} (${field}): ${message}`))];
}

const MAX_TIMEOUT_MS = 365 * 86_400_000;
const parseDuration = duration(1000, MAX_TIMEOUT_MS);

function readValue(
  { kind, flag: name }: FieldFlag,
  given: string | readonly string[],
  environment: Environment,
) {
  const values = [given].flat();
  const [last = ""] = values.slice(-1);
  switch (kind) {
    case "list":
      return values.flatMap((value) => value.split(",")).map((value) => value.trim());
    case "map":
      return Object.fromEntries(values.map((value) => entryOf(name, value, environment)));
    case "duration":
      return /^\d+$/.test(last) ? Number(last) : parseDuration(last) / 1000;
    case "json":
    case "boolean":
      // Other text, such as 007, is refused with the flag's name.
      return /^(?:0|[1-9]\d*|true|false)$/.test(last) ? JSON.parse(last) : last;
    default:
      return last;
  }
}

/** As docker's: a build argument without a value has that of the environment. */
function entryOf(flagName: string, given: string, environment: Environment): [string, string] {
  const [, name = given, value] = /^([^=]+)=(.*)$/s.exec(given) ?? [];
  if (value !== undefined) return [name, value];
  const fromEnvironment = flagName === "--build-arg" ? environment[name] : undefined;
  if (fromEnvironment !== undefined) return [name, fromEnvironment];
  const hint = flagName === "--build-arg" ? ", or the name of a variable that is set" : "";
  throw new BadValue(`${JSON.stringify(given)} is not valid`, `NAME=VALUE${hint}`);
}
