/**
 * Counts turns of phrase that native technical writers do not use, per 10,000 words, and fails above the limit.
 *
 *   bun tests/check/plain-language.ts            the figures by area
 *   bun tests/check/plain-language.ts --list     also each place
 */
import { join } from "node:path";

const ROOT = join(import.meta.dir, "../..");
const LIMIT_PER_10_000_WORDS = 8;
const FILES = ["*.{md,ts,sh}", "{docs,proto,src,tests}/**/*.{md,ts,proto,lua,sh}"];

const PHRASES: readonly RegExp[] = [
  /\b(?:tells?|told|telling)\b/gi,
  /\b(?:nobody|somebody|whoever|everybody|anybody)\b/gi,
  /\banew\b/gi,
  /\bof (?:its|their|his|our|one's) own\b/gi,
  /\b(?:is|are|was) no (?!longer|more|need|such|way|guarantee)\w+/gi,
  /(?:^|[.;:] +|\n\n)What (?:is|was|they|it|cannot|runs|fails|a|an|the)\b/g,
  /\bgives\b/gi,
  /\blikewise\b/gi,
  /\ball the same\b/gi,
  /\b(?:own|last|final|docker's|git's|BuildKit's) words\b/gi,
  /\blies? (?:in|there|under)\b/gi,
  /\bfor so long\b/gi,
];

/** Continuous prose, such as one comment or one paragraph, and its first line. */
export interface Passage {
  readonly text: string;
  readonly line: number;
}

export interface Finding {
  readonly phrase: string;
  readonly line: number;
}

export function findPhrases({ text, line }: Passage): Finding[] {
  return PHRASES.flatMap((pattern) =>
    [...text.matchAll(pattern)].map(({ 0: phrase, index }) => ({
      phrase: phrase.trim(),
      line: line + text.slice(0, index).split("\n").length - 1,
    })),
  );
}

const COMMENT_MARKS: Readonly<Record<string, RegExp>> = {
  ts: /^\s*(?:\/\*\*?|\*\/|\*|\/\/+)(?: |$)|\*\/\s*$|(?<=[;{,)] )\/\/ /g,
  proto: /^\s*\/\/+ ?/g,
  lua: /^\s*--+ ?/g,
  sh: /^\s*#+!? ?/g,
};

const COMMENT_LINES: Readonly<Record<string, RegExp>> = {
  ts: /^\s*(?:\/\/|\/\*|\*(?: |\/|$))|[;{,)] \/\/ /,
  proto: /^\s*\/\//,
  lua: /^\s*--/,
  sh: /^\s*#/,
};

/** Adjacent comment lines make one passage. Code beside a comment is left out. */
export function commentsOf(source: string, language: string): Passage[] {
  const isComment = COMMENT_LINES[language];
  const marks = COMMENT_MARKS[language];
  if (!isComment || !marks) throw new Error(`no comment syntax known for ${language} files`);
  return passagesOf(source, (line) => {
    if (!isComment.test(line)) return undefined;
    const trailing = language === "ts" ? line.match(/[;{,)] \/\/ (.*)$/)?.[1] : undefined;
    return /^\s*(?:\/\/|\/\*|\*|--|#)/.test(line) ? line.replaceAll(marks, "") : trailing;
  });
}

/** Paragraphs of Markdown; code blocks are left out, and code within a line is one word. */
export function paragraphsOf(markdown: string): Passage[] {
  let inCode = false;
  return passagesOf(markdown, (line) => {
    const isFence = /^\s*```/.test(line);
    if (isFence) inCode = !inCode;
    if (inCode || isFence || line.trim() === "") return undefined;
    return line.replaceAll(/`[^`]*`/g, "code");
  });
}

/** Strings of TypeScript that are prose: messages, help, test names. Code within a template is one word. */
export function messagesOf(source: string): Passage[] {
  return source.split("\n").flatMap((line, index) => {
    if (/^\s*(?:\/\/|\/?\*|import )/.test(line)) return [];
    const texts = [...line.matchAll(/"((?:[^"\\]|\\.)*)"|`((?:[^`\\]|\\.)*)`/g)];
    return texts
      .map(([, quoted, template]) => (quoted ?? template ?? "").replaceAll(/\$\{[^}]*\}/g, "code"))
      .filter((text) => text.split(/\s+/).filter((word) => /^[a-z']+[,.:;]?$/i.test(word)).length >= 3)
      .map((text) => ({ text, line: index + 1 }));
  });
}

function passagesOf(source: string, prose: (line: string) => string | undefined): Passage[] {
  const passages: { text: string; line: number }[] = [];
  let isOpen = false;
  for (const [index, line] of source.split("\n").entries()) {
    const text = prose(line);
    const last = passages.at(-1);
    if (text === undefined) isOpen = false;
    else if (isOpen && last) last.text += `\n${text}`;
    else {
      passages.push({ text, line: index + 1 });
      isOpen = true;
    }
  }
  return passages;
}

interface Area {
  readonly name: string;
  readonly files: RegExp;
  read(source: string, file: string): Passage[];
}

const AREAS: readonly Area[] = [
  { name: "documentation", files: /\.md$/, read: paragraphsOf },
  { name: "comments of src", files: /^(?:src\/.*|build)\.ts$/, read: (source) => commentsOf(source, "ts") },
  { name: "comments of tests", files: /^tests\/.*\.ts$/, read: (source) => commentsOf(source, "ts") },
  { name: "messages of src", files: /^(?:src\/.*|build)\.ts$/, read: messagesOf },
  { name: "messages of tests", files: /^tests\/.*\.ts$/, read: messagesOf },
  {
    name: "comments of scripts",
    files: /\.(?:proto|lua|sh)$/,
    read: (source, file) => commentsOf(source, file.split(".").at(-1) ?? ""),
  },
];

const wordsIn = (text: string) => text.split(/\s+/).filter((word) => /[a-z0-9]/i.test(word)).length;

function show(name: string, count: number, words: number): number {
  const rate = words === 0 ? 0 : (count * 10_000) / words;
  console.log(`${name}: ${count} in ${words} words, ${rate.toFixed(1)} per 10,000`);
  return rate;
}

async function main(): Promise<number> {
  const found = FILES.flatMap((pattern) => [...new Bun.Glob(pattern).scanSync({ cwd: ROOT })]);
  const files = found.filter((file) => !file.includes("/generated/")).sort();
  const isListing = process.argv.includes("--list");
  let isTooMany = false;
  const total = { words: 0, count: 0 };
  for (const { name, files: pattern, read } of AREAS) {
    let words = 0;
    let count = 0;
    for (const file of files.filter((path) => pattern.test(path))) {
      for (const passage of read(await Bun.file(join(ROOT, file)).text(), file)) {
        words += wordsIn(passage.text);
        const findings = findPhrases(passage);
        count += findings.length;
        if (isListing) for (const { phrase, line } of findings) console.log(`${file}:${line}: ${phrase}`);
      }
    }
    const rate = show(name, count, words);
    isTooMany ||= rate > LIMIT_PER_10_000_WORDS;
    total.words += words;
    total.count += count;
  }
  show("all together", total.count, total.words);
  if (isTooMany)
    console.error(
      `An area has more than ${LIMIT_PER_10_000_WORDS} per 10,000 words. To see each place: bun tests/check/plain-language.ts --list`,
    );
  return isTooMany ? 1 : 0;
}

if (import.meta.main) process.exit(await main());
