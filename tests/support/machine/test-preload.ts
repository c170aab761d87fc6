/** Loaded before the files of every `bun test` (bunfig.toml). */

import { afterAll } from "bun:test";
import { plugin } from "bun";
import { removeAbandoned } from "./abandoned.ts";
import { closeProcessRecords } from "./process-records.ts";

/** Real servers on a busy machine take longer than the 5 s that Bun gives a test; files that need even more say so. */
const TEST_TIMEOUT_MS = 60_000;

// Bun takes a default timeout from nowhere but a flag and a call in each file: in a preload it holds for the first file
// alone. So each file gets that call, before everything of its own and on its first line, whose number stays.
plugin({
  name: "default timeout of tests",
  setup(build) {
    build.onLoad({ filter: /\.test\.ts$/ }, async ({ path }) => {
      const source = await Bun.file(path).text();
      const call = `(await import("bun:test")).setDefaultTimeout(${TEST_TIMEOUT_MS});`;
      return { loader: "ts", contents: `${call}${source}` };
    });
  },
});

await removeAbandoned();

afterAll(closeProcessRecords);
