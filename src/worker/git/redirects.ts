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
 * Where a repository has moved to, its server says; undefined when that is on no allowed host. Git itself would go
 * anywhere, and only says that it was redirected. Nothing secret is sent.
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
  const asked = `${url}${SERVICE}`;
  const response = await sendRequest(asked, { environment, signal });
  await response.body?.cancel();
  const location = response.status >= 300 && response.status < 400 ? response.headers.get("location") : null;
  return location === null ? undefined : URL.parse(location, asked)?.href;
}
