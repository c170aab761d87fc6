/** What `blacktree up` prints on a terminal when it can build. */
import { API_SETTINGS } from "./usage.ts";

export interface ReadyUp {
  /** Undefined without an admin API. */
  readonly adminPort: number | undefined;
  /** Of the API's token, if `up` made it. */
  readonly tokenFile: string | undefined;
}

/** @param program as the user can type it */
export function describeReady({ adminPort, tokenFile }: ReadyUp, program = process.argv0): string {
  if (adminPort === undefined)
    return "\nReady, without an admin API: only jobs that it has already are built.\n";
  const url = `http://127.0.0.1:${adminPort}`;
  const flags = [
    ...(url === API_SETTINGS.url.fallback ? [] : [`--api ${url}`]),
    ...(tokenFile === undefined ? [] : [`--token-file ${quoted(tokenFile)}`]),
  ];
  return `
Ready. Build a repository, in another terminal, with your AWS account and ECR repository:
  ${[program, "submit --wait", ...flags].join(" ")} --repo OWNER/NAME --branch main --version v1.0.0 \\
    --account 123456789012 --ecr-repo app-images
Ctrl-C stops after the running jobs; a second Ctrl-C stops at once. Waiting jobs are kept.
`;
}

/** For a shell. */
function quoted(text: string): string {
  return /^[\w./:@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
