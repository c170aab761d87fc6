/**
 * The flags of `blacktree submit` for fields that hold secrets. They name a variable or a file: other users of the
 * machine can read an argument list.
 */
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import type { Environment } from "../shared/env.ts";
import { flagValue } from "../shared/settings/command-line.ts";
import { dockerLogins } from "./docker-logins.ts";
import { type JobMessage, problemsOf } from "./job-flags.ts";
import { parsedJson } from "./json-file.ts";
import { WrongUsage } from "./wrong-usage.ts";

/** Flag and field. */
export const SECRET_FLAGS = [
  ["--git-token-file", "git_token"],
  ["--secret", "secrets"],
  ["--registry-auth-file", "registry_auths"],
] as const;

const SECRET_EXPECTED = "expected id=NAME,env=VARIABLE or id=NAME,src=FILE, as docker's --secret";

export function addSecretFlags(command: Command): void {
  command
    .option("--git-token-file <path>", "file with the token for a private repository (git_token)")
    .option(
      "--secret <id=name,env=variable|src=path>",
      "secret for RUN --mount=type=secret, from a variable or a file; repeatable (secrets)",
      (given: string, before: readonly string[] = []) => [...before, given],
    )
    .option(
      "--registry-auth-file <path>",
      "file with logins for base images: docker's config.json, or the field as JSON (registry_auths)",
    );
}

/** The fields that these flags set; secrets of the file keep the names that no flag has. @throws WrongUsage */
export function secretFields(command: Command, fromFile: JobMessage, environment: Environment): JobMessage {
  const tokenFile = flagValue(command, "--git-token-file");
  const secrets = flagValue(command, "--secret") as readonly string[] | undefined;
  const loginFile = flagValue(command, "--registry-auth-file");
  const fields: Record<string, unknown> = {};
  if (tokenFile !== undefined)
    fields.git_token = readText(tokenFile, `--git-token-file ${tokenFile}`).replace(/\r?\n$/, "");
  if (secrets) fields.secrets = Object.fromEntries(secrets.map((spec) => readSecret(spec, environment)));
  if (loginFile !== undefined) fields.registry_auths = readLogins(loginFile);
  const problems = SECRET_FLAGS.flatMap(([flag, field]) => problemsOf(flag, field, fields[field]));
  if (problems.length > 0) throw new WrongUsage(problems.join("\n"));
  if (secrets) fields.secrets = { ...Object(fromFile.secrets), ...Object(fields.secrets) };
  return fields;
}

/** Messages do not show what is neither a name nor a path: it may be the secret itself. */
function readSecret(spec: string, environment: Environment): [name: string, value: string] {
  const parts = spec.split(",").map((part) => /^(id|env|src|source|type)=(.+)$/.exec(part.trim()));
  if (parts.some((part) => part === null)) throw new WrongUsage(`--secret (secrets): ${SECRET_EXPECTED}`);
  const {
    id,
    env,
    src,
    source = src,
    type,
  } = Object.fromEntries(parts.map((part) => [part?.[1], part?.[2]])) as Readonly<
    Record<string, string | undefined>
  >;
  const isOne = (env === undefined) !== (source === undefined);
  const isKnownType = type === undefined || type === (env === undefined ? "file" : "env");
  if (id === undefined || !isOne || !isKnownType)
    throw new WrongUsage(`--secret (secrets): ${SECRET_EXPECTED}`);
  if (source !== undefined) return [id, readText(source, `--secret id=${id},src=${source}`)];
  const value = environment[env ?? ""];
  if (value === undefined)
    throw new WrongUsage(`--secret id=${id},env=${env}: ${env} is not set in the environment`);
  return [id, value];
}

function readLogins(path: string): unknown {
  const where = `--registry-auth-file ${path}`;
  const parsed = parsedJson(readBytes(path, where), where);
  return dockerLogins(parsed, where) ?? parsed;
}

function readText(path: string, where: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(readBytes(path, where));
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new WrongUsage(`${where}: is not UTF-8, as a job's secrets have to be`);
  }
}

function readBytes(path: string, where: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new WrongUsage(`${where}: cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
}
