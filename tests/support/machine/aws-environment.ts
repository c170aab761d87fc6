/** Until the returned function is called, this process has no other variables of AWS than these. */
export function useAwsEnvironment(variables: Readonly<Record<string, string>>): () => void {
  const isOfAws = (name: string) => name.startsWith("AWS_");
  const before = Object.entries(process.env).filter(([name]) => isOfAws(name));
  const clear = () => {
    for (const name of Object.keys(process.env)) if (isOfAws(name)) delete process.env[name];
  };
  clear();
  Object.assign(process.env, variables);
  return () => {
    clear();
    Object.assign(process.env, Object.fromEntries(before));
  };
}
