/**
 * `bun run bench <name>`: measures on real servers. A bench never fails by being slow; it exits 1 when something did not
 * work, and 2 when it was called wrongly.
 */
import { type Bench, WrongUsage } from "./bench-form.ts";
import { buildBench } from "./build/build-bench.ts";

const BENCHES: ReadonlyMap<string, Bench> = new Map([["build", buildBench]]);

const USAGE = [...BENCHES].map(([name, { flags }]) => `bun run bench ${name} ${flags}`).join("\n");

const startedAt = Date.now();

function say(line: string): void {
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(0);
  console.log(`${seconds.padStart(5)} s  ${line}`);
}

function chosen(name: string | undefined): Bench {
  const bench = BENCHES.get(name ?? "");
  if (bench) return bench;
  const given = name === undefined ? "no bench is named" : `there is no bench ${name}`;
  throw new WrongUsage(given);
}

async function main([name, ...args]: readonly string[]): Promise<number> {
  const interruption = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      // The second time, what still runs is left to the kernel, which ends it with us.
      if (interruption.signal.aborted) process.exit(1);
      console.log("stopping, and cleaning up; once more to stop at once");
      interruption.abort(new Error("interrupted"));
    });
  }
  try {
    for (const line of await chosen(name).run(args, say, interruption.signal)) console.log(line);
    return 0;
  } catch (error) {
    const isUsage = error instanceof WrongUsage;
    console.error(`bench: ${error instanceof Error ? error.message : error}${isUsage ? `\n${USAGE}` : ""}`);
    return isUsage ? 2 : 1;
  }
}

process.exit(await main(process.argv.slice(2)));
