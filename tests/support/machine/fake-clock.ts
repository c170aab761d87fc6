import { MissingPrerequisite } from "./prerequisites.ts";

/**
 * Environment of a program whose clock differs from the true time by `offset`, in the format of faketime(1), such as
 * `-12s` or `+2y`. Durations are measured correctly: its monotonic clock is not changed.
 */
export async function fakeClock(offset: string): Promise<Record<string, string>> {
  const [library] = await Array.fromAsync(new Bun.Glob("/usr/lib/*/faketime/libfaketime.so.1").scan("/"));
  if (library === undefined)
    throw new MissingPrerequisite("libfaketime not found: install the package faketime");
  return { LD_PRELOAD: library, FAKETIME: offset, FAKETIME_DONT_FAKE_MONOTONIC: "1" };
}
