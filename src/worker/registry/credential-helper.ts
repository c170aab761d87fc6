/**
 * Docker's credential helpers. Only the operator's file names them, and the worker itself runs them, with its own
 * environment: nothing of a job or a repository reaches them.
 */
import { type HostEnvironment, ownEnvironment } from "../process/child-environment.ts";
import { runInGroup } from "../process/process-group.ts";
import type { CredentialHelper, DockerLogin } from "./docker-auths.ts";

const TIMEOUT_MS = 30_000;
const MAX_MESSAGE_CHARS = 500;

export function helperProgram({ name }: CredentialHelper): string {
  return `docker-credential-${name}`;
}

/** @throws Error with the reason; the signal's reason. */
export async function loginFromHelper(
  helper: CredentialHelper,
  environment: HostEnvironment,
  signal: AbortSignal,
): Promise<DockerLogin> {
  const program = helperProgram(helper);
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const { exitCode, stdoutTail, stderrTail } = await runInGroup({
    argv: [program, "get"],
    cwd: "/",
    environment: ownEnvironment(environment),
    input: helper.server,
    signal: AbortSignal.any([signal, timeout]),
  }).catch((error: unknown) => {
    if (!timeout.aborted) throw error;
    throw new Error(`${program} did not end within ${TIMEOUT_MS / 1000} s`, { cause: error });
  });
  const output = stdoutTail.join("\n");
  // A helper reports its errors on standard output.
  const reason = (output || stderrTail.join("\n")).slice(0, MAX_MESSAGE_CHARS);
  if (exitCode !== 0) throw new Error(`${program} exited with status ${exitCode}: ${reason}`);
  return parsed(program, output);
}

function parsed(program: string, output: string): DockerLogin {
  let answer: { Username?: unknown; Secret?: unknown } | null;
  try {
    answer = JSON.parse(output);
  } catch {
    throw new Error(`${program} printed no JSON`);
  }
  const { Username: username, Secret: secret } = answer ?? {};
  if (typeof username !== "string" || typeof secret !== "string" || secret === "")
    throw new Error(`${program} printed no Username and Secret`);
  return username === "<token>" ? { identityToken: secret } : { username, password: secret };
}
