import { BASE, COPY_ALL, dockerfile, file, type Kind } from "../input.ts";

/** Each has another step: BuildKit's cache does not distinguish the values of some arguments. */
const ONE_ARG = (name: string, step = name) =>
  dockerfile(
    `FROM ${BASE}`,
    `ARG ${name}=default`,
    `RUN : ${JSON.stringify(step)}; env | grep -v -e HOSTNAME -e HOME | sort > /env`,
  );
const VALUE = dockerfile(
  `FROM ${BASE}`,
  "ARG VALUE=default",
  "ENV VALUE=$VALUE",
  'RUN printf %s "$VALUE" > /value',
);
const LABELS = dockerfile("FROM scratch", "COPY a /", 'LABEL of.dockerfile="x" replaced="x"');
const A = file("a", "a\n");

const OWN_ID = { page: "docs/messages.md", says: "names that begin with `io.blacktree.` are reserved" };

export const BUILD_ARGS: Kind = {
  name: "build arguments",
  inputs: [
    {
      name: "values with quotes, spaces, a variable and Unicode",
      files: [VALUE],
      fields: { build_args: { VALUE: " a \"b\" 'c' $HOME `d` \\e \u00fc \u{1f600} = # " } },
      inDefaultCheck: true,
    },
    {
      name: "a value with line breaks",
      files: [VALUE],
      fields: { build_args: { VALUE: "one\ntwo\r\nthree\n" } },
    },
    { name: "an empty value", files: [VALUE], fields: { build_args: { VALUE: "" } } },
    {
      name: "a value that looks like an option",
      files: [VALUE],
      fields: { build_args: { VALUE: "--output=type=local,dest=x" } },
    },
    {
      name: "a value with control characters",
      files: [VALUE],
      fields: { build_args: { VALUE: "\x01\x1b[0m\t" } },
    },
    {
      name: "a value of 100,000 bytes",
      files: [dockerfile(`FROM scratch`, "ARG VALUE", "ENV VALUE=$VALUE", "COPY . /")],
      fields: { build_args: { VALUE: "x".repeat(100_000) } },
    },
    {
      name: "a value of 140,000 bytes",
      files: [dockerfile("FROM scratch", "ARG VALUE", "ENV VALUE=$VALUE", "COPY . /")],
      fields: { build_args: { VALUE: "x".repeat(140_000) } },
      differs: {
        reason: "the worker passes values in a file",
        documented: { page: "docs/building.md", says: "and they may have any size" },
        reference: "failed",
        blacktree: "built",
      },
    },
    {
      name: "an argument that the Dockerfile does not have",
      files: [COPY_ALL],
      fields: { build_args: { UNUSED: "x" } },
    },
    {
      name: "names in lower case and with digits",
      files: [ONE_ARG("lower_1")],
      fields: { build_args: { lower_1: "x", _x: "y" } },
    },
    {
      name: "names with dashes and dots",
      files: [ONE_ARG("a-b.c")],
      fields: { build_args: { "a-b.c": "x" } },
    },
    {
      name: "a name that begins with a digit",
      files: [ONE_ARG("1x")],
      fields: { build_args: { "1x": "x" } },
    },
    {
      name: "a name with a space",
      files: [ONE_ARG("X", "a name with a space")],
      fields: { build_args: { "a b": "x" } },
    },
    { name: "a name in Unicode", files: [ONE_ARG("\u00fc")], fields: { build_args: { "\u00fc": "x" } } },
    {
      name: "a name of 300 letters",
      files: [ONE_ARG("N".repeat(300))],
      fields: { build_args: { [`${"N".repeat(300)}`]: "x" } },
    },
    {
      name: "a name that begins with a dash",
      files: [ONE_ARG("X", "a name that begins with a dash")],
      fields: { build_args: { "-x": "y" } },
    },
    {
      name: "proxies",
      files: [ONE_ARG("X", "proxies")],
      fields: { build_args: { HTTP_PROXY: "http://127.0.0.1:1", no_proxy: "localhost" } },
    },
    {
      name: "platform arguments that the job replaces",
      files: [ONE_ARG("TARGETARCH")],
      fields: { build_args: { TARGETARCH: "mine", TARGETPLATFORM: "x/y" } },
    },
    {
      name: "the name of a base image",
      files: [dockerfile("ARG IMAGE=absent", "FROM $IMAGE", "COPY . /")],
      fields: { build_args: { IMAGE: BASE } },
    },
    {
      name: "SOURCE_DATE_EPOCH",
      files: [ONE_ARG("X", "SOURCE_DATE_EPOCH")],
      fields: { build_args: { SOURCE_DATE_EPOCH: "0" } },
    },
    {
      name: "BUILDKIT_INLINE_CACHE",
      files: [COPY_ALL],
      fields: { build_args: { BUILDKIT_INLINE_CACHE: "1" } },
    },
    {
      name: "BUILDKIT_MULTI_PLATFORM",
      files: [COPY_ALL],
      fields: { build_args: { BUILDKIT_MULTI_PLATFORM: "1" } },
    },
    {
      name: "BUILDKIT_SYNTAX",
      files: [COPY_ALL],
      fields: { build_args: { BUILDKIT_SYNTAX: "127.0.0.1:1/absent" } },
    },
    {
      name: "HOSTNAME and other variables of a shell",
      files: [ONE_ARG("SHELL")],
      fields: { build_args: { SHELL: "x", IFS: "x", USER: "y", LANG: "z" } },
    },
    {
      name: "DOCKER_HOST",
      files: [ONE_ARG("DOCKER_HOST")],
      fields: { build_args: { DOCKER_HOST: "x" } },
    },
    {
      name: "PATH",
      files: [dockerfile("FROM scratch", "ARG PATH", "COPY . /")],
      fields: { build_args: { PATH: "/x" } },
    },
    {
      name: "many arguments",
      files: [VALUE],
      fields: {
        build_args: Object.fromEntries(Array.from({ length: 500 }, (_, at) => [`ARG_${at}`, `${at}`])),
      },
    },
  ],
};

export const LABELS_OF_JOBS: Kind = {
  name: "labels of jobs",
  inputs: [
    {
      name: "values with quotes, line breaks, variables and Unicode",
      files: [LABELS, A],
      fields: {
        labels: {
          "a.b/c-d_e": " \"x\"\n'y' $HOME \\ = , \u00fc\u{1f600}",
          empty: "",
          replaced: "by the job",
        },
      },
      inDefaultCheck: true,
    },
    {
      name: "a value that looks like an option",
      files: [LABELS, A],
      fields: { labels: { a: "--label=b=c" } },
    },
    { name: "a value of 100,000 bytes", files: [LABELS, A], fields: { labels: { a: "x".repeat(100_000) } } },
    {
      name: "names with upper case and dots",
      files: [LABELS, A],
      fields: { labels: { "Com.Example.X": "x", "1": "y", "a..b": "z" } },
    },
    {
      name: "names with a colon, a space, a comma and a plus",
      files: [LABELS, A],
      fields: { labels: { "a:b": "1", "c d": "2", "e,f": "3", "g+h@i": "4" } },
    },
    { name: "a name in Unicode", files: [LABELS, A], fields: { labels: { "\u00fc": "x" } } },
    {
      name: "a name that begins with a dot, an underline or a dash",
      files: [LABELS, A],
      fields: { labels: { ".a": "1", _b: "2", "-c": "3" } },
    },
    { name: "a name of 300 letters", files: [LABELS, A], fields: { labels: { ["n".repeat(300)]: "x" } } },
    {
      name: "many labels",
      files: [LABELS, A],
      fields: { labels: Object.fromEntries(Array.from({ length: 300 }, (_, at) => [`l.${at}`, `${at}`])) },
    },
    {
      name: "labels of other tools",
      files: [LABELS, A],
      fields: {
        labels: {
          maintainer: "x",
          "org.label-schema.name": "y",
          "org.opencontainers.image.title": "z",
          "com.docker.compose.project": "w",
        },
      },
    },
    {
      name: "a label that Blacktree reserves",
      files: [LABELS, A],
      fields: { labels: { "io.blacktree.x": "y" } },
      differs: {
        reason: "they record the inputs of an image",
        documented: OWN_ID,
        reference: "built",
        blacktree: "INVALID_JOB",
      },
    },
  ],
};

export const PLATFORMS: Kind = {
  name: "platforms",
  inputs: [
    {
      name: "a foreign platform, without a step to run",
      files: [COPY_ALL, A],
      fields: { platforms: ["linux/arm64"] },
      inDefaultCheck: true,
    },
    { name: "two platforms", files: [COPY_ALL, A], fields: { platforms: ["linux/amd64", "linux/arm64"] } },
    {
      name: "a platform twice",
      files: [COPY_ALL, A],
      fields: { platforms: ["linux/amd64", "linux/amd64"] },
      differs: {
        reason: "an index with two equal images is of no use",
        documented: { page: "docs/messages.md", says: "One that is listed twice counts once" },
        reference: "built",
        blacktree: "built",
      },
    },
    { name: "a platform with a variant", files: [COPY_ALL, A], fields: { platforms: ["linux/arm/v6"] } },
    { name: "a variant of amd64", files: [COPY_ALL, A], fields: { platforms: ["linux/amd64/v2"] } },
    { name: "a platform of another system", files: [COPY_ALL, A], fields: { platforms: ["windows/amd64"] } },
    { name: "a platform that does not exist", files: [COPY_ALL, A], fields: { platforms: ["plan9/mips"] } },
    { name: "a rare platform", files: [COPY_ALL, A], fields: { platforms: ["linux/s390x"] } },
    { name: "a platform by another name", files: [COPY_ALL, A], fields: { platforms: ["linux/x86_64"] } },
    {
      name: "a foreign platform with a step to run",
      files: [dockerfile(`FROM --platform=$TARGETPLATFORM ${BASE}`, "RUN true")],
      fields: { platforms: ["linux/s390x"] },
    },
    {
      name: "a stage of the platform that builds",
      files: [
        dockerfile(
          `FROM --platform=$BUILDPLATFORM ${BASE} AS build`,
          "ARG TARGETARCH",
          "RUN echo $TARGETARCH > /arch",
          "FROM scratch",
          "COPY --from=build /arch /",
        ),
      ],
      fields: { platforms: ["linux/arm64"] },
    },
    {
      name: "FROM with a platform",
      files: [dockerfile("FROM --platform=linux/arm64 scratch", "COPY . /")],
    },
  ],
};
