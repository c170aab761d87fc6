import { expect, test } from "bun:test";
import { Command } from "commander";
import { addFieldFlags, FIELD_FLAGS, flaggedFields } from "../../../src/cli/job-flags.ts";
import { SECRET_FLAGS } from "../../../src/cli/secret-flags.ts";
import { submitCommand } from "../../../src/cli/submit.ts";
import { KNOWN_FIELDS, SECRET_FIELDS } from "../../../src/orchestrator/job/fields.ts";

/** Set by the orchestrator itself. */
const WITHOUT_FLAG = new Set(["retry_of"]);

function parsed(args: readonly string[], fromFile: Record<string, unknown> = {}, environment = {}) {
  const command = new Command().exitOverride().configureOutput({ writeErr: () => undefined });
  addFieldFlags(command);
  command.parse(args, { from: "user" });
  return flaggedFields(command, fromFile, environment);
}

function fieldsOf(...given: Parameters<typeof parsed>) {
  const { fields, problems } = parsed(...given);
  if (problems.length > 0) throw new Error(problems.join("\n"));
  return fields;
}

test("each field of a job has a flag, those of secrets one that names a file or a variable", () => {
  const plain = FIELD_FLAGS.map(({ field }) => field);
  const secret: string[] = SECRET_FLAGS.map(([, field]) => field);
  const expected = [...KNOWN_FIELDS].filter((field) => !WITHOUT_FLAG.has(field));
  expect([...plain, ...secret].sort()).toEqual(expected.sort());
  expect(secret.toSorted()).toEqual([...SECRET_FIELDS].sort());
  const flags = submitCommand({}, () => undefined).options.map(({ long }) => long);
  for (const flag of [...FIELD_FLAGS.map((each) => each.flag), ...SECRET_FLAGS.map(([each]) => each)])
    expect(flags).toContain(flag);
});

test("flags become fields of their types", () => {
  const args = [
    ...["--repo", "owner/name", "--git-depth", "0", "--git-tags", "--provenance", "false"],
    ...["--build-arg", "A=1", "--build-arg", "B=x=y", "--build-arg", "FROM_ENV", "--label", "a="],
    ...["--platform", "linux/amd64, linux/arm64", "--platform", "linux/arm/v7"],
    ...["--priority", "high", "--timeout", "10m", "--reuse", "same-commit", "--region-policy=require"],
  ];
  expect(fieldsOf(args, {}, { FROM_ENV: "value" })).toEqual({
    repo_url: "owner/name",
    git_depth: 0,
    git_tags: true,
    provenance: false,
    build_args: { A: "1", B: "x=y", FROM_ENV: "value" },
    labels: { a: "" },
    platforms: ["linux/amd64", "linux/arm64", "linux/arm/v7"],
    priority: "high",
    timeout_seconds: 600,
    reuse: "same-commit",
    region_policy: "require",
  });
  expect(fieldsOf(["--timeout", "90"])).toEqual({ timeout_seconds: 90 });
});

test("an object of the file keeps the names that no flag has", () => {
  const file = { build_args: { A: "file", B: "file" }, labels: null, platforms: ["linux/amd64"] };
  const args = ["--build-arg", "B=flag", "--label", "a=b", "--platform", "linux/arm64"];
  expect(fieldsOf(args, file)).toEqual({
    build_args: { A: "file", B: "flag" },
    labels: { a: "b" },
    platforms: ["linux/arm64"],
  });
});

test.each([
  [["--account", "x"], "--account (aws_account): expected digits only"],
  [["--platform", "amd64"], "--platform (platforms): expected platforms such as linux/amd64"],
  [["--git-depth", "many"], "--git-depth (git_depth): expected a whole number"],
  [["--timeout", "soon"], "--timeout (timeout_seconds): is not a valid duration"],
  [["--timeout", "1500ms"], "--timeout (timeout_seconds): expected a whole number of seconds"],
  [
    ["--build-arg", "UNSET"],
    '--build-arg (build_args): "UNSET" is not valid; expected NAME=VALUE, or the name',
  ],
  [["--label", "name"], '--label (labels): "name" is not valid; expected NAME=VALUE'],
  [["--label", "io.blacktree.x=1"], "--label (labels): expected an object of labels"],
  [["--dockerfile", "../x"], "--dockerfile (dockerfile): expected a relative path"],
  [["--priority", "urgent"], "Allowed choices are low, normal, high"],
  [["--git-tags", "perhaps"], "Allowed choices are true, false"],
])("%j is refused", (args, message) => {
  expect(() => fieldsOf(args)).toThrow(message);
});

test("all wrong values are reported at once, and count as given", () => {
  const { fields, problems } = parsed(["--account", "x", "--timeout", "soon"]);
  expect(problems.map((problem) => problem.split(":")[0])).toEqual([
    "--account (aws_account)",
    "--timeout (timeout_seconds)",
  ]);
  expect(Object.keys(fields)).toEqual(["aws_account", "timeout_seconds"]);
});

test.each(["007", "-1", "1e3", ""])("a git depth of %p is refused by the flag's name", (depth) => {
  const { problems } = parsed([`--git-depth=${depth}`]);
  expect(problems).toEqual([expect.stringContaining("--git-depth (git_depth): ")]);
});
