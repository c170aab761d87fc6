/**
 * Checks the imports of src/ against the folder table of src/FLOW.md: a folder imports only the folders that its row
 * lists, and all of them. A row may only list folders of rows below it, so that folders never import each other in a
 * circle. Biome reports circles of files (noImportCycles).
 */
import { dirname, join, relative } from "node:path";

const ROOT = join(import.meta.dir, "../..");
const TABLE_FILE = "src/FLOW.md";
const TABLE_HEADING = "| folder | purpose | may import |";

export interface Problem {
  readonly file: string;
  readonly line: number;
  /** Names the problem and its remedy. */
  readonly message: string;
}

interface Row {
  readonly folder: string;
  readonly line: number;
  readonly allowed: readonly string[];
}

interface Import {
  readonly file: string;
  readonly line: number;
  readonly from: string;
  readonly to: string;
}

/** @param sources texts by path, such as `src/worker/git/lfs.ts`; the import rules are those of `flow`. */
export function findImportProblems(flow: string, sources: ReadonlyMap<string, string>): Problem[] {
  const rows = readTable(flow);
  if (rows.length === 0) {
    return [{ file: TABLE_FILE, line: 1, message: `has no folder table; expected a row ${TABLE_HEADING}` }];
  }
  const imports = [...sources].flatMap(([file, source]) => importsOf(file, source));
  return [
    ...findMissingRows(rows, sources),
    ...findUnknownFolders(rows, sources),
    ...findWrongOrder(rows),
    ...findForbiddenImports(rows, imports),
    ...findUnusedPermissions(rows, imports),
  ];
}

function readTable(flow: string): Row[] {
  const lines = flow.split("\n");
  const start = lines.findIndex((line) => line.replaceAll(/ +/g, " ") === TABLE_HEADING) + 2;
  if (start < 2) return [];
  const length = lines.slice(start).findIndex((line) => !line.startsWith("|"));
  return lines.slice(start, length < 0 ? undefined : start + length).map((line, index) => {
    const [, folder = "", , allowed = ""] = line.split("|");
    return { folder: namesIn(folder)[0] ?? "", line: start + index + 1, allowed: namesIn(allowed) };
  });
}

function namesIn(cell: string): string[] {
  return [...cell.matchAll(/`([^`]+)`/g)].map(([, name = ""]) => name);
}

/** Matches the import and export statements that Biome's formatting leaves, and dynamic imports. */
const RELATIVE_IMPORT = /^(?:(?:import|export) (?:[^"]* from )?|\} from )"(\.[^"]+)"|\bimport\("(\.[^"]+)"\)/;

function importsOf(file: string, source: string): Import[] {
  const from = folderOf(file);
  return source.split("\n").flatMap((text, index) => {
    const [, statement, call] = RELATIVE_IMPORT.exec(text) ?? [];
    const specifier = statement ?? call;
    if (specifier === undefined) return [];
    const to = folderOf(join(dirname(file), specifier));
    return to === from ? [] : [{ file, line: index + 1, from, to }];
  });
}

/** Relative to src/. Generated code and Lua scripts belong to the folder that contains theirs. */
function folderOf(file: string): string {
  return relative("src", dirname(file)).replace(/\/(?:generated|scripts)(?:\/.*)?$/, "");
}

function findMissingRows(rows: readonly Row[], sources: ReadonlyMap<string, string>): Problem[] {
  const known = new Set(rows.map(({ folder }) => folder));
  const firstFiles = new Map([...sources.keys()].reverse().map((file) => [folderOf(file), file]));
  return [...firstFiles]
    .filter(([folder]) => !known.has(folder))
    .map(([folder, file]) => ({
      file,
      line: 1,
      message: `folder ${folder} has no row in the folder table of ${TABLE_FILE}: add one, above the folders that it imports`,
    }));
}

function findUnknownFolders(rows: readonly Row[], sources: ReadonlyMap<string, string>): Problem[] {
  const existing = new Set([...sources.keys()].map(folderOf));
  return rows
    .filter(({ folder }) => !existing.has(folder))
    .map(({ folder, line }) => ({
      file: TABLE_FILE,
      line,
      message: `folder ${folder} does not exist or has no TypeScript file: remove its row`,
    }));
}

function findWrongOrder(rows: readonly Row[]): Problem[] {
  return rows.flatMap(({ folder, line, allowed }, index) => {
    const below = new Set(rows.slice(index + 1).map((row) => row.folder));
    return allowed
      .filter((other) => !below.has(other))
      .map((other) => ({
        file: TABLE_FILE,
        line,
        message:
          `${folder} may import ${other}, which is not in a row below it: move the row of ${folder} up; ` +
          `if that is not possible, the two folders import each other, and shared code has to move to a third one`,
      }));
  });
}

function findForbiddenImports(rows: readonly Row[], imports: readonly Import[]): Problem[] {
  const allowedOf = new Map(rows.map(({ folder, allowed }) => [folder, allowed]));
  return imports
    .filter(({ from, to }) => allowedOf.get(from)?.includes(to) === false)
    .map(({ file, line, from, to }) => ({
      file,
      line,
      message:
        `${from} may not import ${to}: move the code to a folder that both may import, ` +
        `or add \`${to}\` to the row of ${from} in ${TABLE_FILE}`,
    }));
}

function findUnusedPermissions(rows: readonly Row[], imports: readonly Import[]): Problem[] {
  const used = new Set(imports.map(({ from, to }) => `${from} ${to}`));
  return rows.flatMap(({ folder, line, allowed }) =>
    allowed
      .filter((other) => !used.has(`${folder} ${other}`))
      .map((other) => ({
        file: TABLE_FILE,
        line,
        message: `no file of ${folder} imports ${other}: remove \`${other}\` from the row of ${folder}`,
      })),
  );
}

async function main(): Promise<number> {
  const files = await Array.fromAsync(new Bun.Glob("src/**/*.ts").scan({ cwd: ROOT }));
  const handWritten = files.filter((file) => !file.includes("/generated/")).sort();
  const sources = await Promise.all(
    handWritten.map(async (file) => [file, await Bun.file(join(ROOT, file)).text()] as const),
  );
  const problems = findImportProblems(await Bun.file(join(ROOT, TABLE_FILE)).text(), new Map(sources));
  for (const { file, line, message } of problems) console.error(`${file}:${line}: ${message}`);
  if (problems.length === 0) console.log(`Checked the imports of ${handWritten.length} files.`);
  return problems.length > 0 ? 1 : 0;
}

if (import.meta.main) process.exit(await main());
