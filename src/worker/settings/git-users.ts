/** BLACKTREE_GIT_USER: which user name a git host expects beside a token. */
import { commaSeparated } from "../../shared/settings/parsers.ts";
import { BadValue, type Parser } from "../../shared/settings/settings.ts";

/** A colon would end the user name in HTTP's Basic authentication. */
const ENTRY = /^([A-Za-z0-9.-]+(?::\d{1,5})?)=([\x21-\x39\x3b-\x7e]{1,255})$/;
const EXPECTED =
  "host=user or host:port=user, comma separated, such as gitlab.example=deploy-user; a user name has no colon and no space";

/** By host in lower case. */
export const gitUsers: Parser<Readonly<Record<string, string>>> = (raw) => {
  const users = new Map<string, string>();
  for (const [host, user] of commaSeparated(entry)(raw)) {
    if (users.has(host)) throw new BadValue(`names ${host} twice`, EXPECTED);
    users.set(host, user);
  }
  return Object.fromEntries(users);
};

function entry(part: string): readonly [host: string, user: string] {
  const [, host, user] = ENTRY.exec(part) ?? [];
  if (host === undefined || user === undefined)
    throw new BadValue("has an entry with the wrong format", EXPECTED);
  return [host.toLowerCase(), user];
}
