import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { dirname, join, relative } from "node:path";

const ROOT = join(import.meta.dir, "../../..");
const PAGES = ["*.md", "docs/**/*.md", "src/**/*.md"];

interface Link {
  readonly line: number;
  readonly target: string;
}

const pages = PAGES.flatMap((pattern) => [...new Bun.Glob(pattern).scanSync({ cwd: ROOT })]).sort();

/** Links outside code. */
function linksOf(markdown: string): Link[] {
  let inCode = false;
  return markdown.split("\n").flatMap((text, index) => {
    if (/^\s*```/.test(text)) inCode = !inCode;
    if (inCode) return [];
    const targets = text.replaceAll(/`[^`]*`/g, "").matchAll(/\]\(([^)\s]+)\)/g);
    return [...targets].map(([, target = ""]) => ({ line: index + 1, target }));
  });
}

/** As GitHub makes them. */
function anchorsOf(markdown: string): string[] {
  return [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}_ -]/gu, "")
      .replaceAll(" ", "-"),
  );
}

async function isBroken(page: string, target: string): Promise<boolean> {
  const [path = "", anchor] = target.split("#");
  const file = path === "" ? join(ROOT, page) : join(ROOT, dirname(page), path);
  if (!existsSync(file)) return true;
  return anchor !== undefined && !anchorsOf(await Bun.file(file).text()).includes(anchor);
}

test("pages are found", () => {
  expect(pages).toContain("README.md");
  expect(pages).toContain("docs/settings.md");
  expect(pages).toContain("src/FLOW.md");
});

test.each(pages)("every link of %s to a file or heading of the repository leads there", async (page) => {
  const links = linksOf(await Bun.file(join(ROOT, page)).text());
  const internal = links.filter(({ target }) => !/^[a-z]+:/.test(target));
  const broken = await Promise.all(
    internal.map(async ({ line, target }) =>
      (await isBroken(page, target)) ? [`${page}:${line}: ${target}`] : [],
    ),
  );
  expect(broken.flat()).toEqual([]);
  for (const { target } of internal)
    expect(relative(ROOT, join(ROOT, dirname(page), target))).not.toStartWith("..");
});
