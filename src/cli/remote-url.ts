/** The `repo_url` of a git remote: remotes are also written as ssh:// URLs, as host:path, and with credentials. */

/** The servers on which git hosts offer SSH through port 443. */
const HTTPS_HOSTS: Readonly<Record<string, string>> = {
  "ssh.github.com": "github.com",
  "altssh.gitlab.com": "gitlab.com",
  "altssh.bitbucket.org": "bitbucket.org",
};

/** The https URL without user, password, query and fragment; undefined if a worker could not clone from it. */
export function repositoryOfRemote(remote: string): string | undefined {
  const isUrl = /^[a-z][a-z0-9+.-]*:\/\//i.test(remote);
  const scpLike = isUrl ? null : /^(?:[^@/:]+@)?([^/:@]+):(?!\/\/)(.+)$/.exec(remote);
  const url = URL.parse(scpLike ? `ssh://${scpLike[1]}/${scpLike[2]?.replace(/^\/+/, "")}` : remote);
  if (!url || url.pathname.replaceAll("/", "") === "") return undefined;
  if (url.protocol === "https:") return `https://${url.host}${url.pathname}`;
  const isSsh = ["ssh:", "git+ssh:", "ssh+git:"].includes(url.protocol);
  // A name without a dot is an alias of the user's ssh configuration, or a drive.
  if (!isSsh || !url.hostname.includes(".")) return undefined;
  const host = url.hostname.toLowerCase();
  return `https://${HTTPS_HOSTS[host] ?? host}${url.pathname}`;
}

/** For messages. */
export function withoutCredentials(remote: string): string {
  return remote.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/]*@/i, "$1");
}
