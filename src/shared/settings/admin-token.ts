/** The token of the admin API, for the programs that serve it and for those that call it. */
import * as parse from "./parsers.ts";

export const ADMIN_TOKEN = "BLACKTREE_ADMIN_TOKEN";
export const ADMIN_TOKEN_FILE = "BLACKTREE_ADMIN_TOKEN_FILE";

export const adminToken = parse.matching(
  /^[\x21-\x7e]{8,}$/,
  "at least 8 printable characters without spaces",
);

/** The file's token. */
export const adminTokenFile = parse.secretFile(adminToken);

/** Made by `install.sh`. */
export const INSTALLED_TOKEN_FILE = "/etc/blacktree/admin-token";

/** Name of the file that `blacktree up` makes in its work folder. */
export const UP_TOKEN_FILE = "admin-token";
