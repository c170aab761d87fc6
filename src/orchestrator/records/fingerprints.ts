/**
 * Fingerprints of a job's identity, one per field, so that differing fields can be named although not every value is
 * stored.
 *
 * Values may be guessable, such as a build argument that contains a secret. Each record therefore has its own random
 * salt, stored beside the fingerprints: nothing can be computed in advance or compared between records. A reader of
 * Redis can still test guesses, one record at a time. Preventing that takes a secret that all orchestrators share, and
 * there is none.
 */
import { createHmac, randomBytes } from "node:crypto";
import type { JobIdentity } from "./job-records.ts";

/** Hex SHA-256 by field. */
export type Fingerprints = Readonly<Record<string, string>>;

export function newSalt(): string {
  return randomBytes(16).toString("hex");
}

/** In the order of their names: equal identities have equal JSON. */
export function fingerprintsOf(identity: JobIdentity, salt: string): Fingerprints {
  return Object.fromEntries(
    entriesByName(identity).map(([name, value]) => {
      const text = JSON.stringify([name, canonical(value)]);
      return [name, createHmac("sha256", salt).update(text).digest("hex")];
    }),
  );
}

export function differingNames(one: Fingerprints, other: Fingerprints): readonly string[] {
  const names = new Set([...Object.keys(one), ...Object.keys(other)]);
  return [...names].filter((name) => one[name] !== other[name]).toSorted();
}

/** The order of an object's keys has no meaning. */
function canonical(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return entriesByName(value);
}

function entriesByName(map: object): [name: string, value: unknown][] {
  return Object.entries(map).toSorted(([one], [other]) => (one < other ? -1 : 1));
}
