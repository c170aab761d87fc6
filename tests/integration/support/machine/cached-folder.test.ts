import { expect, test } from "bun:test";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cachedFolder } from "../../../support/machine/cached-folder.ts";
import { makeTempDir } from "../../../support/machine/temp-dir.ts";

test("two callers that fill a folder at the same time do not disturb each other", async () => {
  const dir = await makeTempDir("cached");
  const folder = join(dir.path, "folder");
  const isFirstDone = Promise.withResolvers<void>();
  const fill = (until?: Promise<void>) => async (unfinished: string) => {
    await until;
    await writeFile(join(unfinished, "proof"), "");
  };
  try {
    const second = cachedFolder(folder, "proof", fill(isFirstDone.promise));
    expect(await cachedFolder(folder, "proof", fill())).toBe(folder);
    isFirstDone.resolve();
    expect(await second).toBe(folder);
  } finally {
    await dir.remove();
  }
});
