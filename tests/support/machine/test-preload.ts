/** Loaded before the files of every `bun test` (bunfig.toml). */

import { afterAll } from "bun:test";
import { plugin } from "bun";
import { removeAbandoned } from "./abandoned.ts";
import { closeProcessRecords } from "./process-records.ts";

/** More than any wait of a test for a server or program, which reports what it waited for; Bun's default is 5 s. */
const TEST_TIMEOUT_MS = 300_000;

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
