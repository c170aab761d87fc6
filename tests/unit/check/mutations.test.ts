import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { MUTATIONS } from "../../check/mutants/mutations.ts";

const ROOT = join(import.meta.dir, "../../..");

test.each(MUTATIONS.map((mutation) => [mutation.name, mutation] as const))(
  "the text that the mutation '%s' replaces is in its file once",
  (_, { file, from, to }) => {
    expect(readFileSync(join(ROOT, file), "utf8").split(from)).toHaveLength(2);
    expect(to).not.toBe(from);
  },
);
