/** Settings that a repository contains, such as .gitmodules: the repository chooses all of the file's contents. */
import { lstat } from "node:fs/promises";
import { join } from "node:path";
import { StepFailure } from "../job/failure.ts";
import type { WorkingCopy } from "./working-copy.ts";

/** A key and its value, with one character for each byte. */
export type OnSetting = (key: string, value: string) => void;

/** Nothing matches the pattern. */
const NONE_FOUND = 1;

/**
 * Reads the settings whose keys match the pattern, as git does: from the checked out file. (From a blob, git reads byte
 * order marks and the byte 0xff wrongly.) The file's size was checked by `WorkingCopy.list`.
 * @throws StepFailure when the file is not readable as git's settings; its settings never count as absent.
 */
export async function readSettingsFile(
  copy: WorkingCopy,
  name: ".gitmodules" | ".lfsconfig",
  pattern: string,
  onSetting: OnSetting,
): Promise<void> {
  const entry = await lstat(join(copy.path, name)).catch(() => undefined);
  if (!entry) return;
  if (!entry.isFile()) throw unreadable(name, "it is not a regular file");
  let withoutValue: string | undefined;
  // Without includes: they could name any file of this machine.
  const args = ["config", "--no-includes", "-z", `--file=${name}`, "--get-regexp", pattern];
  const { exitCode, stderrTail } = await copy.remote.git.localInGroup(args, copy.path, (record) => {
    const end = record.indexOf("\n");
    if (end < 0) withoutValue ??= record;
    else onSetting(record.slice(0, end), record.slice(end + 1));
  });
  if (withoutValue !== undefined) throw unreadable(name, `${withoutValue} has no value`);
  if (exitCode !== 0 && exitCode !== NONE_FOUND) throw unreadable(name, stderrTail.join("; "));
}

function unreadable(name: string, reason: string): StepFailure {
  const message = `git cannot read the repository's ${name}: ${reason}; correct the file and push it`;
  return new StepFailure({ code: "CLONE_FAILED", step: "clone", message });
}
