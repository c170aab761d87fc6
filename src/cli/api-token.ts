/** Which token the commands send to the admin API. */
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import type { Environment } from "../shared/env.ts";
import {
  ADMIN_TOKEN,
  ADMIN_TOKEN_FILE,
  adminTokenFile,
  INSTALLED_TOKEN_FILE,
  UP_TOKEN_FILE,
} from "../shared/settings/admin-token.ts";
import { isLoopback } from "../shared/settings/parsers.ts";
import { BadValue } from "../shared/settings/settings.ts";
import type { ApiToken } from "./api/client.ts";
import { WrongUsage } from "./wrong-usage.ts";

interface TokenSources {
  /** URL of the API. */
  readonly api: string;
  /** The flag's value. */
  readonly tokenFile: string | undefined;
  readonly environment: Environment;
}

/** @throws WrongUsage when the named file cannot be used. */
export function apiToken({ api, tokenFile, environment }: TokenSources): ApiToken {
  const token = environment[ADMIN_TOKEN];
  if (tokenFile !== undefined) return tokenOf(tokenFile, "--token-file");
  const namedFile = environment[ADMIN_TOKEN_FILE];
  if (token && namedFile)
    throw new WrongUsage(`${ADMIN_TOKEN} and ${ADMIN_TOKEN_FILE} are both set; unset one`);
  if (token) return { token, origin: `sent the token of ${ADMIN_TOKEN}` };
  if (namedFile) return tokenOf(namedFile, ADMIN_TOKEN_FILE);
  // The local files belong to this machine's API, and no other server may get their token.
  const host = new URL(api).hostname.replace(/^\[|\]$/g, "");
  const files = isLoopback(host) ? localFiles(environment) : [];
  const found = files.find(isReadable);
  if (found !== undefined) return tokenOf(found, "the default");
  const looked = files.length > 0 ? ` (of these files this user can read none: ${files.join(", ")})` : "";
  const origin = `sent no token; name its file with --token-file or ${ADMIN_TOKEN_FILE}, or set ${ADMIN_TOKEN}${looked}`;
  return { token: undefined, origin };
}

/** Where `install.sh` and `up` keep the token, the latter in the work folders that the documentation uses. */
function localFiles({ BLACKTREE_WORK_DIR, HOME }: Environment): string[] {
  if (BLACKTREE_WORK_DIR) return [join(BLACKTREE_WORK_DIR, UP_TOKEN_FILE)];
  return [
    INSTALLED_TOKEN_FILE,
    ...(HOME ? [join(HOME, ".blacktree", UP_TOKEN_FILE)] : []),
    join("/var/lib/blacktree", UP_TOKEN_FILE),
  ];
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

function tokenOf(path: string, source: string): ApiToken {
  try {
    return { token: adminTokenFile(path), origin: `sent the token of ${path}` };
  } catch (error) {
    if (!(error instanceof BadValue)) throw error;
    throw new WrongUsage(`${path} (${source}): ${error.message}`);
  }
}
