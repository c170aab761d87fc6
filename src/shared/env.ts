/** The process's environment, for the main files to hand to whoever reads settings or starts children. */
export type Environment = Readonly<Record<string, string | undefined>>;

export function environment(): Environment {
  return process.env;
}
