import { unifyProxyVariables } from "./proxies.ts";

/** The process's environment. Main files pass it to the code that reads settings or starts child processes. */
export type Environment = Readonly<Record<string, string | undefined>>;

export function environment(): Environment {
  return process.env;
}

/** Called first by every program: Bun reads the variables at each request, and child processes get them. */
export function unifyProxies(): void {
  unifyProxyVariables(process.env);
}
