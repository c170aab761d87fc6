/**
 * The fields of a job message and their formats (docs/messages.md). Every value becomes part of an argument list, a
 * path, a host name or a queue name, so each has a strict format, and none can be read as a command-line option.
 */
import { posix } from "node:path";
import { z } from "zod";
import { type RegistryLogin, registryHost } from "../../shared/registry-login.ts";
import { REGION_PATTERN } from "../../shared/settings/parsers.ts";

export const JOB_ID_PATTERN = /^[A-Za-z0-9._:-]{1,200}$/;
export const TENANT_PATTERN = /^[A-Za-z0-9._-]{1,64}$/;

// biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern rejects control characters
const CONTROL_CHARACTERS = /[\x00-\x1f\x7f]/;

/** BuildKit accepts no larger secret. */
const MAX_SECRET_BYTES = 500 * 1024;

/** More commits than any repository has, and less than git's number for all of them. */
const MAX_GIT_DEPTH = 1_000_000_000;

function text(expected: string, isValid: (value: string) => boolean) {
  return z
    .string({ error: `expected ${expected}` })
    .refine((value) => isValid(value), { error: `expected ${expected}` });
}

function pattern(expected: string, regex: RegExp) {
  return text(expected, (value) => regex.test(value));
}

/** The rules of `git check-ref-format`, and no leading dash. A ref can be a file, whose name has at most 255 bytes. */
function isRefName(value: string): boolean {
  const isInvalid =
    value === "" ||
    Buffer.byteLength(value) > 255 ||
    !value.isWellFormed() ||
    CONTROL_CHARACTERS.test(value) ||
    /[ ~^:?*[\\]|\.\.|@\{|\/\/|\.$|\/$|^\/|^-/.test(value) ||
    value === "@" ||
    value.split("/").some((part) => part.startsWith(".") || part.endsWith(".lock"));
  return !isInvalid;
}

/** Relative, and inside the repository after `..` is resolved; symlinks are checked after the clone. */
function isPathInRepository(value: string): boolean {
  const isInvalid =
    value === "" ||
    value.length > 4096 ||
    CONTROL_CHARACTERS.test(value) ||
    value.includes("\\") ||
    value.includes("://") ||
    value.startsWith("/") ||
    value.startsWith("-") ||
    `${posix.normalize(value)}/`.startsWith("../");
  return !isInvalid;
}

const pathInRepository = text(
  "a relative path inside the repository, not starting with -",
  isPathInRepository,
);
const region = pattern("an AWS region such as us-east-1", /^[a-z]{2,10}(-[a-z0-9]{1,20}){1,4}$/);

function stringMap(
  what: string,
  nameRegex: RegExp,
  names: string,
  isName: (name: string) => boolean = () => true,
) {
  const expected = `an object of ${what}: ${names}, each with a string`;
  return withoutProtoKey(expected).pipe(
    z
      .record(z.string(), z.string({ error: `expected ${expected}` }), { error: `expected ${expected}` })
      .refine((map) => Object.keys(map).every((name) => nameRegex.test(name) && isName(name)), {
        error: `expected ${expected}`,
      })
      .refine((map) => Object.values(map).every((value) => !value.includes("\0")), {
        error: "a value contains a NUL byte",
      }),
  );
}

/** A JSON key `__proto__` would silently disappear in a copy instead of being rejected, so it is rejected first. */
function withoutProtoKey(expected: string) {
  return z
    .unknown()
    .refine((map) => !Object.hasOwn(Object(map), "__proto__"), { error: `expected ${expected}` });
}

const MAX_REGISTRY_LOGINS = 32;
/** A password may be a key file, and several kB long. */
const MAX_LOGIN_VALUE_CHARS = 16_384;

const passwordLogin = z.strictObject({
  // Docker stores the login as user:password.
  username: z
    .string()
    .regex(/^[^:]{1,255}$/)
    .refine((name) => !CONTROL_CHARACTERS.test(name)),
  password: z
    .string()
    .regex(/^[^\0]+$/)
    .max(MAX_LOGIN_VALUE_CHARS),
});
const tokenLogin = z
  .strictObject({
    identity_token: z
      .string()
      .regex(/^[\x21-\x7e]+$/)
      .max(MAX_LOGIN_VALUE_CHARS),
  })
  .transform(({ identity_token: identityToken }) => ({ identityToken }));

const LOGIN_EXPECTED = `expected username (1 to 255 characters, without colons and control characters) and password, or identity_token alone, each of at most ${MAX_LOGIN_VALUE_CHARS} characters`;

/** By the registries' hosts. Problems name valid hosts, and no other key: it may be a misplaced secret. */
function registryLogins() {
  const expected = `an object of at most ${MAX_REGISTRY_LOGINS} logins, by hosts of registries such as ghcr.io or registry.example.com:5000`;
  return withoutProtoKey(expected).pipe(
    z
      .record(z.string(), z.unknown(), { error: `expected ${expected}` })
      .transform((given, context): Record<string, RegistryLogin> => {
        const refuse = (message: string) => void context.addIssue({ code: "custom", message });
        const logins: Record<string, RegistryLogin> = {};
        if (Object.keys(given).length > MAX_REGISTRY_LOGINS) refuse(`expected ${expected}`);
        for (const [key, value] of Object.entries(given)) {
          const host = registryHost(key);
          const login = z.union([passwordLogin, tokenLogin]).safeParse(value);
          if (host === undefined) refuse(`expected ${expected}`);
          else if (Object.hasOwn(logins, host)) refuse(`${host} has two logins; expected one`);
          else if (login.success) logins[host] = login.data;
          else refuse(`${host}: ${LOGIN_EXPECTED}`);
        }
        return logins;
      }),
  );
}

/** Many senders write `null` for an optional field that is not set. */
function optionalField<Schema extends z.ZodType>(schema: Schema) {
  return schema
    .nullish()
    .transform((value): z.output<Schema> | undefined => (value === null ? undefined : value));
}

const required = {
  branch: text(
    "a branch, a tag, a whole ref or a full commit id, valid for git and not starting with -",
    isRefName,
  ),
  deployment_version: pattern(
    "an image tag: 1 to 128 letters, digits, _ . and -, not starting with . or -",
    /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/,
  ),
  aws_account: pattern('digits only, as a string, such as "123456789012"', /^\d{1,12}$/),
  ecr_repo: text(
    "an ECR repository name: 2 to 256 lower case letters, digits, . _ - and /",
    (value) =>
      value.length >= 2 &&
      value.length <= 256 &&
      /^(?:[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*\/)*[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/.test(value),
  ),
};

const optional = {
  tenant: optionalField(pattern("1 to 64 of letters, digits, . _ and -", TENANT_PATTERN)),
  region: optionalField(region),
  worker_region: optionalField(pattern("1 to 63 letters, digits, - and _", REGION_PATTERN)),
  region_policy: optionalField(z.enum(["prefer", "require"], { error: "expected prefer or require" })),
  job_id: optionalField(pattern("1 to 200 of letters, digits, . _ : and -", JOB_ID_PATTERN)),
  commit: optionalField(
    pattern(
      "a full commit id of 40 hex digits (SHA-1) or 64 (SHA-256)",
      /^(?:[0-9a-fA-F]{40}|[0-9a-fA-F]{64})$/,
    ),
  ).transform((sha) => sha?.toLowerCase()),
  git_depth: optionalField(
    z
      .int({ error: "expected a whole number of commits, or 0 for all" })
      .min(0, { error: "expected a whole number of commits, or 0 for all" })
      .max(MAX_GIT_DEPTH, { error: `expected at most ${MAX_GIT_DEPTH} commits, or 0 for all` }),
  ),
  git_tags: optionalField(z.boolean({ error: "expected true or false" })),
  dockerfile: optionalField(pathInRepository),
  context: optionalField(pathInRepository),
  target: optionalField(pattern("the name of a build stage", /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/)),
  build_args: optionalField(
    stringMap("build arguments", /^[^=\0]+$/, "names of characters other than = and NUL"),
  ),
  labels: optionalField(
    stringMap(
      "labels",
      /^[^=\0]+$/,
      "names of characters other than = and NUL (io.blacktree.* is reserved)",
      (name) => !name.startsWith("io.blacktree."),
    ),
  ),
  platforms: optionalField(
    z.array(pattern("platforms such as linux/amd64", /^[a-z0-9]+\/[a-z0-9_]+(\/[a-z0-9.]+)?$/), {
      error: "expected a list of platforms such as linux/amd64",
    }),
  ),
  git_token: optionalField(
    text("1 to 4096 characters without spaces or control characters", (value) =>
      /^[\x21-\x7e]{1,4096}$/.test(value),
    ),
  ),
  secrets: optionalField(
    stringMap("secrets", /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/, "names of letters, digits, _ . and -").refine(
      (map) => Object.values(map).every((value) => Buffer.byteLength(value) <= MAX_SECRET_BYTES),
      { error: `a value has more than ${MAX_SECRET_BYTES} bytes` },
    ),
  ),
  registry_auths: optionalField(registryLogins()),
  priority: optionalField(z.enum(["low", "normal", "high"], { error: "expected low, normal or high" })),
  timeout_seconds: optionalField(
    z
      .int({ error: "expected a whole number of seconds from 1 on" })
      .min(1, { error: "expected a whole number of seconds from 1 on" }),
  ),
  supersede: optionalField(
    text(
      "1 to 200 characters",
      (value) => value.length >= 1 && value.length <= 200 && !CONTROL_CHARACTERS.test(value),
    ),
  ),
  provenance: optionalField(z.boolean({ error: "expected true or false" })),
  reuse: optionalField(z.enum(["never", "same-commit"], { error: "expected never or same-commit" })),
};

/** Without `repo_url`, whose check needs the settings. */
export const JOB_FIELDS = z.object({ ...required, ...optional });
export type JobFields = z.output<typeof JOB_FIELDS>;

export const KNOWN_FIELDS: ReadonlySet<string> = new Set(["repo_url", ...Object.keys(JOB_FIELDS.shape)]);

/** Their values are secrets. */
export const SECRET_FIELDS: ReadonlySet<string> = new Set(["git_token", "secrets", "registry_auths"]);

/** Values of absent fields, as far as they do not depend on other fields or on settings. */
export const FIELD_DEFAULTS = {
  git_depth: 1,
  git_tags: false,
  region_policy: "prefer",
  build_args: {},
  labels: {},
  priority: "normal",
  provenance: false,
  platforms: [],
  secrets: {},
  registry_auths: {},
  reuse: "never",
} as const satisfies Partial<JobFields>;

export function tenantOf({ tenant, aws_account }: Pick<JobFields, "tenant" | "aws_account">): string {
  return tenant ?? aws_account;
}
