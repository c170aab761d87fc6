/** BLACKTREE_REUSE_KEY: only who has the key can mark an image as one that this installation built. */
import { commaSeparated } from "../../shared/settings/parsers.ts";
import { BadValue, type Parser } from "../../shared/settings/settings.ts";

const MIN_KEY_BYTES = 32;
const EXPECTED = "64 or more hex digits, such as those that `openssl rand -hex 32` prints";

const reuseKey: Parser<Buffer> = (raw) => {
  const key = Buffer.from(raw, "hex");
  if (key.length < MIN_KEY_BYTES || key.length * 2 !== raw.length) {
    throw new BadValue("has a key with the wrong format", EXPECTED);
  }
  return key;
};

/** At least one. */
export const reuseKeys: Parser<readonly Buffer[]> = (raw) => {
  const keys = commaSeparated(reuseKey)(raw);
  if (keys.length === 0) throw new BadValue("has no key", EXPECTED);
  return keys;
};
