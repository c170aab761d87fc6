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

function pattern(expected: string, regex: RegExp) {
  return z.string({ error: `expected ${expected}` }).regex(regex, { error: `expected ${expected}` });
}

/** The rules of `git check-ref-format`, and no leading dash. */
const REF_NAME =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern rejects control characters
  /^(?![-/.])(?!@$)(?![\s\S]*(?:\.\.|@\{|\/\/|\/\.|\.lock(?:\/|$)|[./]$))[^\x00-\x20\x7f~^:?*[\\]{1,255}$/;

/** A ref can be a file, whose name has at most 255 bytes. */
const isFileName = (value: string) => Buffer.byteLength(value) <= 255;

/** Relative; symlinks are checked after the clone. */
const RELATIVE_PATH =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern rejects control characters
  /^(?![-/])(?![\s\S]*:\/\/)[^\x00-\x1f\x7f\\]{1,4096}$/;

const isInside = (path: string) => !`${posix.normalize(path)}/`.startsWith("../");

const PATH_EXPECTED = "a relative path inside the repository, not starting with -";
const pathInRepository = pattern(PATH_EXPECTED, RELATIVE_PATH).refine(isInside, {
  error: `expected ${PATH_EXPECTED}`,
});
const region = pattern("an AWS region such as us-east-1", /^[a-z]{2,10}(-[a-z0-9]{1,20}){1,4}$/);

function stringMap(what: string, nameRegex: RegExp, names: string) {
  const expected = `an object of ${what}: ${names}, each with a string`;
  // JSON Schema cannot describe the first part of the pipe.
  return withoutProtoKey(expected)
    .pipe(
      z
        .record(z.string(), z.string({ error: `expected ${expected}` }), { error: `expected ${expected}` })
        .refine((map) => Object.keys(map).every((name) => nameRegex.test(name)), {
          error: `expected ${expected}`,
        })
        .refine((map) => Object.values(map).every((value) => !value.includes("\0")), {
          error: "a value contains a NUL byte",
        }),
    )
    .meta({
      type: "object",
      propertyNames: { pattern: nameRegex.source },
      additionalProperties: { type: "string", pattern: "^[^\\x00]*$" },
    });
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

/** For the OpenAPI document; `registryHost` decides. */
const REGISTRY_HOST =
  /^(?:localhost|[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*\.[A-Za-z0-9]+)(?::[0-9]{1,5})?$|^[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?:[0-9]{1,5}$|^\[[0-9a-f:.]+\](?::[0-9]{1,5})?$/;

/** By the registries' hosts. Problems name valid hosts, and no other key: it may be a misplaced secret. */
function registryLogins() {
  const expected = `an object of at most ${MAX_REGISTRY_LOGINS} logins, by hosts of registries such as ghcr.io or registry.example.com:5000`;
  return withoutProtoKey(expected)
    .pipe(
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
    )
    .meta({
      type: "object",
      maxProperties: MAX_REGISTRY_LOGINS,
      propertyNames: { pattern: REGISTRY_HOST.source, maxLength: 255 },
      additionalProperties: {
        oneOf: [
          objectOf({
            username: { type: "string", pattern: "^[^:\\x00-\\x1f\\x7f]{1,255}$" },
            password: { type: "string", pattern: `^[^\\x00]{1,${MAX_LOGIN_VALUE_CHARS}}$` },
          }),
          objectOf({
            identity_token: { type: "string", pattern: `^[\\x21-\\x7e]{1,${MAX_LOGIN_VALUE_CHARS}}$` },
          }),
        ],
      },
    });
}

const objectOf = (properties: Readonly<Record<string, object>>) => ({
  type: "object",
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
});

/** Many senders write `null` for an optional field that is not set. */
function optionalField<Schema extends z.ZodType>(schema: Schema, description: string) {
  return schema
    .nullish()
    .transform((value): z.output<Schema> | undefined => (value === null ? undefined : value))
    .meta({ description });
}

const ECR_REPO_EXPECTED = "an ECR repository name: 2 to 256 lower case letters, digits, . _ - and /";

// biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern rejects NUL
const BUILD_ARG_NAME = /^[^=\x00]+$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern rejects NUL
const LABEL_NAME = /^(?!io\.blacktree\.)[^=\x00]+$/;

const required = {
  branch: pattern(
    "a branch, a tag, a whole ref or a full commit id, valid for git and not starting with -",
    REF_NAME,
  )
    .refine(isFileName, { error: "expected at most 255 bytes" })
    .meta({
      description: "Branch or tag, also as `refs/heads/…` or `refs/tags/…`, or a full commit id.",
      examples: ["main"],
    }),
  deployment_version: pattern(
    "an image tag: 1 to 128 letters, digits, _ . and -, not starting with . or -",
    /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/,
  ).meta({ description: "Becomes the image's tag.", examples: ["v1.0.3"] }),
  aws_account: pattern('digits only, as a string, such as "123456789012"', /^\d{1,12}$/).meta({
    description: "Account of the registry.",
    examples: ["1234567890"],
  }),
  ecr_repo: pattern(
    ECR_REPO_EXPECTED,
    /^(?:[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*\/)*[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/,
  )
    .min(2, { error: `expected ${ECR_REPO_EXPECTED}` })
    .max(256, { error: `expected ${ECR_REPO_EXPECTED}` })
    .meta({ description: "Name of the ECR repository.", examples: ["app-images"] }),
};

const optional = {
  tenant: optionalField(
    pattern("1 to 64 of letters, digits, . _ and -", TENANT_PATTERN),
    "On whose behalf the job runs; by default `aws_account`.",
  ),
  region: optionalField(region, "AWS region of the registry; by default that of the orchestrator."),
  worker_region: optionalField(
    pattern("1 to 63 letters, digits, - and _", REGION_PATTERN),
    "Region of the workers that should build it; by default `region`.",
  ),
  region_policy: optionalField(
    z.enum(["prefer", "require"], { error: "expected prefer or require" }),
    "Whether workers of other regions may build it when none of its own is free.",
  ),
  job_id: optionalField(
    pattern("1 to 200 of letters, digits, . _ : and -", JOB_ID_PATTERN),
    "A job submitted again with the same id never starts a second build; by default one is made.",
  ),
  commit: optionalField(
    pattern(
      "a full commit id of 40 hex digits (SHA-1) or 64 (SHA-256)",
      /^(?:[0-9a-fA-F]{40}|[0-9a-fA-F]{64})$/,
    ),
    "Full id of a commit in the history of `branch`, to build instead of its tip.",
  ).transform((sha) => sha?.toLowerCase()),
  git_depth: optionalField(
    z
      .int({ error: "expected a whole number of commits, or 0 for all" })
      .min(0, { error: "expected a whole number of commits, or 0 for all" })
      .max(MAX_GIT_DEPTH, { error: `expected at most ${MAX_GIT_DEPTH} commits, or 0 for all` }),
    "How many commits the checkout's history has; 0 for all.",
  ),
  git_tags: optionalField(
    z.boolean({ error: "expected true or false" }),
    "Whether the checkout has the tags of these commits.",
  ),
  dockerfile: optionalField(
    pathInRepository,
    "Path of the Dockerfile; by default `Dockerfile` in `context`.",
  ),
  context: optionalField(pathInRepository, "Path of the build's context; by default the repository's root."),
  target: optionalField(
    pattern("the name of a build stage", /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/),
    "Build stage to build; by default the last one.",
  ),
  build_args: optionalField(
    stringMap("build arguments", BUILD_ARG_NAME, "names of characters other than = and NUL"),
    "Build arguments, by name.",
  ),
  labels: optionalField(
    stringMap("labels", LABEL_NAME, "names of characters other than = and NUL (io.blacktree.* is reserved)"),
    "Labels of the image, by name; `io.blacktree.*` is reserved.",
  ),
  platforms: optionalField(
    z.array(pattern("platforms such as linux/amd64", /^[a-z0-9]+\/[a-z0-9_]+(\/[a-z0-9.]+)?$/), {
      error: "expected a list of platforms such as linux/amd64",
    }),
    "Platforms to build for, such as `linux/arm64`; by default that of the worker.",
  ),
  git_token: optionalField(
    pattern("1 to 4096 characters without spaces or control characters", /^[\x21-\x7e]{1,4096}$/).meta({
      writeOnly: true,
    }),
    "For a private repository. Secret.",
  ),
  secrets: optionalField(
    stringMap("secrets", /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/, "names of letters, digits, _ . and -")
      .refine((map) => Object.values(map).every((value) => Buffer.byteLength(value) <= MAX_SECRET_BYTES), {
        error: `a value has more than ${MAX_SECRET_BYTES} bytes`,
      })
      .meta({ writeOnly: true }),
    "Secrets for RUN steps, by name. Secret.",
  ),
  registry_auths: optionalField(
    registryLogins().meta({ writeOnly: true }),
    "Logins for base images, by the registry's host. Secret.",
  ),
  priority: optionalField(
    z.enum(["low", "normal", "high"], { error: "expected low, normal or high" }),
    "Jobs with a higher priority start first.",
  ),
  timeout_seconds: optionalField(
    z
      .int({ error: "expected a whole number of seconds from 1 on" })
      .min(1, { error: "expected a whole number of seconds from 1 on" }),
    "Limit of one attempt; at most `BLACKTREE_JOB_TIMEOUT`.",
  ),
  supersede: optionalField(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern rejects control characters
    pattern("1 to 200 characters", /^[^\x00-\x1f\x7f]{1,200}$/),
    "A later job of the tenant with the same key cancels this one, such as `web/main`.",
  ),
  provenance: optionalField(
    z.boolean({ error: "expected true or false" }),
    "Whether the image gets BuildKit's provenance attestation.",
  ),
  reuse: optionalField(
    z.enum(["never", "same-commit"], { error: "expected never or same-commit" }),
    "With `same-commit`, an image that was pushed before of the same commit and inputs only gets the tag.",
  ),
  retry_of: optionalField(
    pattern("a job's id: 1 to 200 of letters, digits, . _ : and -", JOB_ID_PATTERN),
    "Id of an ended job of which this one is another try.",
  ),
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
