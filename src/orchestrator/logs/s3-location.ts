/** Where in S3 logs are kept, and the key of each. */
import { BadValue, type Parser } from "../../shared/settings/settings.ts";
import type { LogKey } from "./log-store.ts";

export interface S3Location {
  readonly bucket: string;
  /** Without slashes at its ends; empty for none. */
  readonly prefix: string;
}

const EXPECTED = "s3://bucket or s3://bucket/prefix";
const BUCKET = /^(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
const PREFIX_SEGMENT = /^(?!\.{1,2}$)[A-Za-z0-9._=-]+$/;
/** A key has at most 1024 bytes, of which tenant, job id and attempt need up to 300. */
const MAX_PREFIX_CHARS = 512;

/** `s3://bucket[/prefix]`, with or without a slash at the end. */
export const s3Location: Parser<S3Location> = (raw) => {
  const [, bucket, path = ""] = /^s3:\/\/([^/]*)(?:\/(.*))?$/.exec(raw) ?? [];
  if (bucket === undefined) throw new BadValue("is not the URL of a bucket", EXPECTED);
  if (raw.includes("@"))
    throw new BadValue(
      "contains a login",
      `${EXPECTED}; credentials are found as by other programs of AWS, such as AWS_PROFILE`,
    );
  if (/[?#]/.test(raw)) throw new BadValue("has a query or fragment", EXPECTED);
  return { bucket: checkedBucket(bucket), prefix: checkedPrefix(path.replace(/(?<=.)\/$/, "")) };
};

function checkedBucket(bucket: string): string {
  if (bucket === "") throw new BadValue("has no bucket", EXPECTED);
  if (bucket.includes(":"))
    throw new BadValue(
      "has a port or an ARN instead of a bucket's name",
      `${EXPECTED}; AWS_ENDPOINT_URL_S3 is the URL of another server than AWS`,
    );
  if (BUCKET.test(bucket)) return bucket;
  throw new BadValue(
    "has an invalid bucket name",
    `${EXPECTED}; a bucket's name has 3 to 63 lower-case letters, digits, . and -, and begins and ends with a letter or digit`,
  );
}

function checkedPrefix(prefix: string): string {
  if (prefix === "") return "";
  if (prefix.length <= MAX_PREFIX_CHARS && prefix.split("/").every((part) => PREFIX_SEGMENT.test(part)))
    return prefix;
  throw new BadValue(
    "has an invalid prefix",
    `${EXPECTED}; a prefix has at most ${MAX_PREFIX_CHARS} letters, digits, . _ = - and single slashes, and no part is . or ..`,
  );
}

export function formatS3Location({ bucket, prefix }: S3Location): string {
  return prefix === "" ? `s3://${bucket}` : `s3://${bucket}/${prefix}`;
}

/** `<prefix>/<tenant>/<job id>/<attempt>.ndjson` */
export function objectKey({ prefix }: S3Location, { tenant, jobId, attempt }: LogKey): string {
  const path = `${nameInPath(tenant)}/${nameInPath(jobId)}/${attempt}.ndjson`;
  return prefix === "" ? path : `${prefix}/${path}`;
}

/** Programs remove `.` and `..` from the paths of URLs. No tenant or job id contains a `%`. */
function nameInPath(name: string): string {
  return /^\.{1,2}$/.test(name) ? name.replaceAll(".", "%2E") : name;
}
