/** Labels of a worker, which its operator chooses and orchestrators show. */
import { commaSeparated } from "./parsers.ts";
import { BadValue, type Parser } from "./settings.ts";

const MAX_LABELS = 20;
const KEY = /^[A-Za-z0-9._/-]{1,63}$/;
const MAX_VALUE_LENGTH = 100;
const HIDDEN = /[\p{Cc}\p{Cf}\u2028\u2029]/u;

export const EXPECTED_LABELS = `at most ${MAX_LABELS} of key=value: 1 to 63 of letters, digits, . _ / and - as the key, at most ${MAX_VALUE_LENGTH} visible characters as the value`;

export function areLabels(labels: Readonly<Record<string, string>>): boolean {
  const entries = Object.entries(labels);
  return entries.length <= MAX_LABELS && entries.every(([key, value]) => isLabel(key, value));
}

/** `key=value`, comma separated. */
export const workerLabels: Parser<Readonly<Record<string, string>>> = (raw) => {
  const entries = commaSeparated(workerLabel)(raw);
  const labels = Object.fromEntries(entries);
  if (entries.length > MAX_LABELS) throw new BadValue(`has ${entries.length} labels`, EXPECTED_LABELS);
  if (Object.keys(labels).length < entries.length) throw new BadValue("has a key twice", EXPECTED_LABELS);
  return labels;
};

export const workerLabel: Parser<readonly [key: string, value: string]> = (raw) => {
  const separator = raw.indexOf("=");
  const [key, value] = [raw.slice(0, separator), raw.slice(separator + 1)];
  if (separator > 0 && isLabel(key, value)) return [key, value];
  throw new BadValue(`has ${JSON.stringify(raw)}, which is not a label`, EXPECTED_LABELS);
};

function isLabel(key: string, value: string): boolean {
  return KEY.test(key) && [...value].length <= MAX_VALUE_LENGTH && !HIDDEN.test(value);
}
