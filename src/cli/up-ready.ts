/** What `blacktree up` prints on a terminal when it can build. */
import { formatHostPort, type HostPort } from "../shared/settings/parsers.ts";
import { API_SETTINGS } from "./usage.ts";

export interface ReadyUp {
  /** Undefined without an admin API. */
  readonly adminApi: HostPort | undefined;
  /** Of the API's token, if `up` made it. */
  readonly tokenFile: string | undefined;
}

/** @param program as the user can type it */
export function describeReady({ adminApi, tokenFile }: ReadyUp, program = process.argv0): string {
  if (adminApi === undefined)
    return "\nReady, without an admin API: only jobs that it has already are built.\n";
  const url = urlOf(adminApi);
  const flags = [
    ...(url === API_SETTINGS.url.fallback ? [] : [`--api ${quoted(url)}`]),
    ...(tokenFile === undefined ? [] : [`--token-file ${quoted(tokenFile)}`]),
  ];
  return `
Ready. Build a repository, in another terminal, with your AWS account and ECR repository:
  ${[program, "submit --wait", ...flags].join(" ")} --repo OWNER/NAME --branch main --version v1.0.0 \\
    --account 123456789012 --ecr-repo app-images
Ctrl-C stops after the running jobs; a second Ctrl-C stops at once. Waiting jobs are kept.
`;
}

/** Where a process that listens on all addresses can be reached from this machine. */
const LOOPBACK: Readonly<Record<string, string>> = { "0.0.0.0": "127.0.0.1", "[::]": "[::1]" };

function urlOf(listen: HostPort): string {
  const given = `http://${formatHostPort(listen)}`;
  // In its shortest notation. An IPv6 address with a zone is not valid in a URL.
  const hostname = URL.parse(given)?.hostname;
  return hostname === undefined ? given : `http://${LOOPBACK[hostname] ?? hostname}:${listen.port}`;
}

/** For a shell. */
function quoted(text: string): string {
  return /^[\w./:@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
