import { type GitSettings, isAllowedUrl } from "../../shared/repository-url.ts";
import type { ChildEnvironment } from "../process/child-environment.ts";
import { sendRequest } from "./request.ts";

export interface RedirectOptions {
  readonly environment: ChildEnvironment;
  readonly allowed: GitSettings;
  readonly signal: AbortSignal;
}

const SERVICE = "/info/refs?service=git-upload-pack";
const MAX_REDIRECTS = 5;

/**
 * Follows a repository's redirects to its new URL; undefined when that is not on an allowed host. Git itself would
 * follow a redirect to any host. The requests contain no credentials.
 */
export async function redirectTarget(url: string, options: RedirectOptions): Promise<string | undefined> {
  let current = url;
  for (let followed = 0; followed < MAX_REDIRECTS; followed++) {
    const next = await locationOf(current, options);
    if (next === undefined) return current;
    if (!next.endsWith(SERVICE)) return undefined;
    current = next.slice(0, -SERVICE.length);
    if (!isAllowedUrl(current, options.allowed)) return undefined;
  }
  return undefined;
}

async function locationOf(
  url: string,
  { environment, signal }: RedirectOptions,
): Promise<string | undefined> {
  const requested = `${url}${SERVICE}`;
  const response = await sendRequest(requested, { environment, signal });
  await response.body?.cancel();
  const location = response.status >= 300 && response.status < 400 ? response.headers.get("location") : null;
  return location === null ? undefined : URL.parse(location, requested)?.href;
}
