/** Loaded before the files of every `bun test` (bunfig.toml). */

import { afterAll } from "bun:test";
import { plugin } from "bun";
import { removeAbandoned } from "./abandoned.ts";
import { closeProcessRecords } from "./process-records.ts";

/** On a busy machine, real servers need longer than Bun's default of 5 s; some files set an even longer time. */
const TEST_TIMEOUT_MS = 60_000;

// Bun accepts a default timeout only from a flag and from a call in each file: a call in a preload holds for the first
// file alone. So each file is loaded with that call inserted before its first line, which keeps the line numbers.
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
