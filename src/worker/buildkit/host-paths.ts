/** BuildKit's messages name files by their paths on the worker's host and on the engine's. */
import { realpath } from "node:fs/promises";
import type { Workspace } from "../job/workspace.ts";

/**
 * A folder in which BuildKit has mounted a context or a layer, or one that has a layer's files. Begins only where a word
 * begins: from every slash on, the search would take quadratic time.
 */
const MOUNT =
  /(?<![^\s":])([^\s/":]*)(?:\/[^\s/":]+)*\/(?:buildkit-mount\d+|cachemounts\/buildkit\d+|(?:io\.containerd\.snapshotter\.v1\.\w+|snapshots)\/snapshots\/\d+\/fs)/g;

/** Returns a function that replaces them by paths in the repository. A line may be JSON. */
export async function hostPathRemover(
  workspace: Pick<Workspace, "path" | "checkout" | "dockerfileCopy">,
): Promise<(line: string) => string> {
  const run = await realpath(workspace.path);
  const folders = [workspace.path, run].map((path) => JSON.stringify(path).slice(1, -1));
  const inRun = (path: string) => path.slice(workspace.path.length);
  const withinCheckout = [inRun(workspace.checkout), inRun(workspace.dockerfileCopy)];
  return (line) => {
    let text = line;
    for (const folder of folders) {
      if (!text.includes(folder)) continue;
      for (const part of withinCheckout) text = text.replaceAll(`${folder}${part}/`, "");
      text = text.replaceAll(`${folder}${inRun(workspace.checkout)}`, ".").replaceAll(folder, "…");
    }
    return text.replace(MOUNT, "$1");
  };
}
