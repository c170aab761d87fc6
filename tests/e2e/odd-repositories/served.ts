/** The repositories of the inputs, on the git server of the tests. */
import type { GitServer } from "../../support/servers/git-server.ts";
import { type Entry, GitObjects } from "./git-objects.ts";
import type { OddInput } from "./input.ts";

export interface Served {
  /** The value of `repo_url`. */
  readonly repository: string;
  readonly url: string;
}

async function serveOne(
  git: GitServer,
  name: string,
  {
    files,
    commit,
    objectFormat = "sha1",
    refs,
  }: Pick<OddInput, "files" | "commit" | "objectFormat" | "refs">,
): Promise<void> {
  const objects = new GitObjects(objectFormat);
  const tip = objects.commit(objects.tree(files), commit);
  const allRefs = refs ? refs(objects, tip) : { "refs/heads/main": tip };
  await git.importRepository(name, { pack: objects.pack(), refs: allRefs, objectFormat });
  for (const { lfsContent } of files) if (lfsContent) git.lfs.add(lfsContent);
}

/** Makes the input's repository, and those beside it, available. */
export async function serve(git: GitServer, number: number, input: OddInput): Promise<Served> {
  const owner = `input-${number}`;
  const repository = `${owner}/repository`;
  await serveOne(git, repository, input);
  for (const [name, files] of Object.entries<readonly Entry[]>(input.others ?? {}))
    await serveOne(git, `${owner}/${name}`, { files });
  return { repository, url: `${git.baseUrl}/${repository}` };
}
