/** Programs that are in no package are compiled with Go from their modules. */
import { run } from "./processes.ts";

export const compileTimeoutMs = 30 * 60_000;

export function findGo(): string | null {
  return Bun.which("go", { PATH: `${process.env.PATH}:/usr/local/go/bin:/usr/lib/go/bin` });
}

/** @returns the folder of its sources, for a name such as `example.com/module@v1.2.3` */
export async function goModule(go: string, module: string): Promise<string> {
  const { stdout } = await run([go, "mod", "download", "-json", module], {
    cwd: "/",
    timeoutMs: compileTimeoutMs,
  });
  return (JSON.parse(stdout) as { Dir: string }).Dir;
}
