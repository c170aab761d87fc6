/** The tags of a repository on its server. */
import type { CloneBudget } from "./budget.ts";
import type { GitName } from "./names.ts";
import type { GitRemote } from "./remote.ts";

export interface Tag {
  readonly ref: GitName;
  /** The id of the tag object for an annotated tag, else of the target. */
  readonly id: string;
  /** What it names, also through other tags. */
  readonly target: string;
}

const OFFER = /^([0-9a-f]+)\t(refs\/tags\/.*?)(\^\{\})?$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: as `git check-ref-format`, since the server chooses the names
const INVALID_NAME = /[\x00-\x20\x7f~^:?*[\\]|\.\.|@\{|\/\/|\/\.|\.lock(?:\/|$)|[./]$/;
const MAX_TAGS = 100_000;

/** @throws StepFailure */
export async function offeredTags(remote: GitRemote, cwd: string, budget: CloneBudget): Promise<Tag[]> {
  const tags = new Map<string, Tag>();
  const onRecord = (line: string) => {
    const [, id, name, isTarget] = OFFER.exec(line) ?? [];
    if (id === undefined || name === undefined || INVALID_NAME.test(name)) return;
    const ref = name as GitName;
    // The line of an annotated tag is followed by one with its target.
    tags.set(name, { ref, id: isTarget ? (tags.get(name)?.id ?? id) : id, target: id });
    if (tags.size > MAX_TAGS) budget.refuse(`it has more than ${MAX_TAGS} tags, and the job has git_tags`);
  };
  const args = (url: string) => ["ls-remote", "--quiet", "--tags", "--", url];
  await remote.run({ args, cwd, onRecord, recordEnd: "\n" });
  return [...tags.values()].toSorted((one, other) => (one.ref < other.ref ? -1 : 1));
}

/** The contents of .git/packed-refs, as git writes it. */
export function packedRefs(tags: readonly Tag[]): Buffer {
  const lines = tags.flatMap(({ ref, id, target }) => [
    `${id} ${ref}`,
    ...(id === target ? [] : [`^${target}`]),
  ]);
  const header = "# pack-refs with: peeled fully-peeled sorted ";
  return Buffer.from([header, ...lines, ""].join("\n"), "latin1");
}
