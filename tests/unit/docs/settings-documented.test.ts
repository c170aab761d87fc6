import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { upCommand } from "../../../src/cli/up.ts";
import { ORCHESTRATOR_SETTINGS } from "../../../src/orchestrator/config.ts";
import { flagOf, type SettingTable } from "../../../src/shared/settings/settings.ts";
import { WORKER_SETTINGS } from "../../../src/worker/settings/config.ts";

const page = await Bun.file(join(import.meta.dir, "../../../docs/settings.md")).text();

interface Described {
  readonly flag: string;
  readonly name: string;
  /** Undefined when there is none: the page then says in words what happens. */
  readonly fallback: string | undefined;
  readonly isRequired: boolean;
}

function ofTable(table: SettingTable): Described[] {
  return Object.values(table).map(({ name, fallback, optional }) => ({
    flag: flagOf(name),
    name,
    fallback: fallback || undefined,
    isRequired: fallback === undefined && !optional,
  }));
}

/** Its table is its own affair, but its help is made from it: "… (NAME; default …)". */
function ofUp(): Described[] {
  return upCommand({}, () => undefined).options.flatMap(({ long, description }) => {
    const [, name, fallback] = /\(([A-Z_]+)(?:; default (.*))?\)$/.exec(description) ?? [];
    return long && name ? [{ flag: long, name, fallback: fallback || undefined, isRequired: false }] : [];
  });
}

/** The rows of the table below this heading, by the name of the variable. */
function rowsBelow(heading: string): Map<string, { flag: string; fallback: string; meaning: string }> {
  const section = page.split(/^## /m).find((text) => text.startsWith(heading)) ?? "";
  const rows = section.matchAll(/^\| `(--[a-z-]+)` \| `([A-Z_]+)` \| (.+?) \| (.+) \|$/gm);
  return new Map(
    [...rows].map(([, flag = "", name = "", fallback = "", meaning = ""]) => [
      name,
      { flag, fallback, meaning },
    ]),
  );
}

const PROGRAMS: readonly [heading: string, settings: Described[]][] = [
  ["Orchestrator", ofTable(ORCHESTRATOR_SETTINGS)],
  ["Worker", ofTable(WORKER_SETTINGS)],
  ["`blacktree up`", ofUp()],
];

describe.each(PROGRAMS)("docs/settings.md, %s", (heading, settings) => {
  const rows = rowsBelow(heading);

  test("has all settings, and no other", () => {
    expect(settings.length).toBeGreaterThan(10);
    expect([...rows.keys()].sort()).toEqual(settings.map(({ name }) => name).sort());
  });

  test.each(settings)("$name has its flag and default", ({ name, flag, fallback, isRequired }) => {
    const row = rows.get(name);
    expect(row?.flag).toBe(flag);
    if (fallback !== undefined) expect(row?.fallback).toBe(`\`${fallback}\``);
    else if (isRequired) expect(row?.fallback).toStartWith("required");
    else expect(row?.fallback).not.toStartWith("required");
  });
});
