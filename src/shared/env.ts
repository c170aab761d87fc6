/** The process's environment. Main files pass it to the code that reads settings or starts child processes. */
export type Environment = Readonly<Record<string, string | undefined>>;

export function environment(): Environment {
  return process.env;
}
