/**
 * `bun run bench <name>`: measures on real servers. A slow bench does not fail. Exit status 1: an operation failed;
 * 2: the command line was wrong.
 */
import { type Bench, UsageError } from "./bench-command.ts";
import { buildBench } from "./build/build-bench.ts";
import { dispatchBench } from "./dispatch/dispatch-bench.ts";

const BENCHES: ReadonlyMap<string, Bench> = new Map([
  ["build", buildBench],
  ["dispatch", dispatchBench],
]);

const USAGE = [...BENCHES].map(([name, { flags }]) => `bun run bench ${name} ${flags}`).join("\n");

const startedAt = Date.now();

function log(line: string): void {
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(0);
  console.log(`${seconds.padStart(5)} s  ${line}`);
}

function chosen(name: string | undefined): Bench {
  const bench = BENCHES.get(name ?? "");
  if (bench) return bench;
  const given = name === undefined ? "no bench is named" : `unknown bench ${name}`;
  throw new UsageError(given);
}

async function main([name, ...args]: readonly string[]): Promise<number> {
  const interruption = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      // On the second signal, exit at once; the kernel ends the remaining child processes.
      if (interruption.signal.aborted) process.exit(1);
      console.log("stopping, and cleaning up; send the signal again to stop at once");
      interruption.abort(new Error("interrupted"));
    });
  }
  try {
    for (const line of await chosen(name).run(args, log, interruption.signal)) console.log(line);
    return 0;
  } catch (error) {
    const isUsage = error instanceof UsageError;
    console.error(`bench: ${error instanceof Error ? error.message : error}${isUsage ? `\n${USAGE}` : ""}`);
    return isUsage ? 2 : 1;
  }
}

process.exit(await main(process.argv.slice(2)));
