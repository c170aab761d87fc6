/** The repository that stores a tenant's build cache: BLACKTREE_CACHE_REPO, in which `{tenant}` stands for the tenant. */
import { createHash } from "node:crypto";

export const TENANT_PLACEHOLDER = "{tenant}";
const VALID_COMPONENT = /^[a-z0-9]+(?:[._-][a-z0-9]+)*$/;

export function cacheRepositoryFor(template: string, tenant: string): string {
  return template.replaceAll(TENANT_PLACEHOLDER, repositoryComponent(tenant));
}

/** Whether the repository may be the cache of any tenant. */
export function isCacheRepository(template: string, repository: string): boolean {
  const [head = "", ...tails] = template.split(TENANT_PLACEHOLDER);
  let rest = repository;
  if (!rest.startsWith(head)) return false;
  rest = rest.slice(head.length);
  if (tails.length === 0) return rest === "";
  const last = tails.at(-1) ?? "";
  return rest.length > last.length && rest.endsWith(last);
}

/** A tenant may have upper case letters, which a repository's name may not; no two tenants share a name. */
function repositoryComponent(tenant: string): string {
  if (VALID_COMPONENT.test(tenant)) return tenant;
  const readable = tenant
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-|-$/g, "");
  const hash = createHash("sha256").update(tenant).digest("hex").slice(0, 16);
  return readable === "" ? hash : `${readable}-${hash}`;
}
