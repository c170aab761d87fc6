/** What `blacktree up` prints on a terminal when it can build. */
import { API_SETTINGS } from "./usage.ts";

/** @param program as the user can type it */
export function describeReady(adminPort: number, program = process.argv0): string {
  const url = `http://127.0.0.1:${adminPort}`;
  const api = url === API_SETTINGS.url.fallback ? "" : ` ${API_SETTINGS.url.flag} ${url}`;
  return `
Ready. Build a repository, in another terminal, with your AWS account and ECR repository:
  ${program} submit --wait${api} --repo OWNER/NAME --branch main --version v1.0.0 \\
    --account 123456789012 --ecr-repo app-images
Ctrl-C stops after the running jobs; a second Ctrl-C stops at once. Waiting jobs are kept.
`;
}
