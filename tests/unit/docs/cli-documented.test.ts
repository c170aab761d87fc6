import { expect, test } from "bun:test";
import { join } from "node:path";
import { makeProgram } from "../../../src/cli/program.ts";

const PAGE = join(import.meta.dir, "../../../docs/cli.md");

/** Its flags are settings, with their own page. */
const ELSEWHERE = new Set(["up", "help"]);

const program = makeProgram({}, () => undefined);
const help = program.createHelp();
const withExamples = help.visibleCommands(program).filter((command) => command.name() !== "help");
const commands = help.visibleCommands(program).filter((command) => !ELSEWHERE.has(command.name()));

test.each(commands.map((command) => [command.name(), command] as const))(
  "docs/cli.md has a section for %s, with its flags",
  async (name, command) => {
    const page = await Bun.file(PAGE).text();
    expect(page).toMatch(new RegExp(`^#+ .*\`blacktree ${name}\`$`, "m"));
    const flags = help.visibleOptions(command).flatMap(({ long, short }) => [long ?? "", short ?? ""]);
    const written = new Set(page.match(/(?<![\w-])--?[a-z][a-z-]*/g));
    expect(
      flags.filter((flag) => flag !== "" && !["--help", "-h"].includes(flag) && !written.has(flag)),
    ).toEqual([]);
  },
);

test.each(withExamples.map((command) => [command.name(), command] as const))(
  "the help of %s has examples",
  (_, command) => {
    let text = "";
    command.configureOutput({ writeOut: (part) => (text += part) }).outputHelp();
    expect(text).toContain("\nExamples:\n  ");
  },
);
