// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are variables of Dockerfiles
import type { Entry } from "../git-objects.ts";
import { BASE, COPY_ALL, dockerfile, file, type Kind, lines, program } from "../input.ts";

const A = file("a", "a\n");
const B = file("dir/b", "b\n");
const raw = (content: string | Uint8Array): Entry => file("Dockerfile", content);
const fromBase = (...all: readonly string[]) => dockerfile(`FROM ${BASE}`, ...all);
const CRLF = lines(
  `FROM ${BASE}`,
  "ENV A=b \\",
  "    C=d",
  "RUN echo one > /one \\",
  "  && echo two > /two",
  "COPY . /all",
).replaceAll("\n", "\r\n");

/** Instructions and directives of Dockerfiles. */
export const DOCKERFILES: Kind = {
  name: "Dockerfile features",
  inputs: [
    {
      name: "heredocs of RUN and COPY",
      files: [
        fromBase(
          "RUN <<EOF",
          "echo one > /one",
          'echo "$((1 + 1))" > /two',
          "EOF",
          "COPY <<one <<'two' /texts/",
          "first $HOME",
          "one",
          "second $HOME",
          "two",
        ),
      ],
      inDefaultCheck: true,
    },
    {
      name: "a heredoc with tabs and with an interpreter",
      files: [
        fromBase(
          "RUN <<-EOF",
          "\techo one > /one",
          "\tEOF",
          "RUN <<EOF",
          "#!/bin/busybox sh",
          "echo interpreter > /two",
          "EOF",
          'COPY <<-"x y" /three',
          "\ttext",
          "x y",
        ),
      ],
    },
    { name: "a heredoc without its end", files: [fromBase("RUN <<EOF", "echo one")] },
    {
      name: "several stages, by name, number and image",
      files: [
        dockerfile(
          `FROM ${BASE} AS build`,
          "RUN echo built > /out",
          "FROM scratch AS files",
          "COPY a /a",
          "FROM scratch",
          "COPY --from=build /out /",
          "COPY --from=1 /a /from-one",
          `COPY --from=${BASE} /bin/sh /sh`,
        ),
        A,
      ],
    },
    {
      name: "a target",
      files: [
        dockerfile(
          "FROM scratch AS one",
          "COPY a /",
          "ENV STAGE=one",
          "FROM one AS two",
          "ENV STAGE=two",
          "FROM absent-image",
        ),
        A,
      ],
      fields: { target: "two" },
    },
    {
      name: "a target by number and one in other case",
      files: [dockerfile("FROM scratch AS One", "COPY a /", "FROM absent-image"), A],
      fields: { target: "one" },
    },
    {
      name: "a target that is a number",
      files: [dockerfile("FROM scratch", "COPY a /", "FROM absent-image"), A],
      fields: { target: "0" },
    },
    { name: "a target that does not exist", files: [COPY_ALL], fields: { target: "absent" } },
    {
      name: "ARG before FROM",
      files: [
        dockerfile(
          `ARG NAME=${BASE}`,
          "ARG TAG=latest",
          "FROM ${NAME}:${TAG}",
          "ARG NAME",
          "ENV FROM=$NAME",
          "RUN echo $NAME > /name",
        ),
      ],
    },
    {
      name: "ARG with a default and its replacement",
      files: [
        fromBase(
          "ARG ONE=default",
          "ARG TWO",
          "ARG THREE=${ONE:-x}",
          'RUN echo "$ONE $TWO $THREE" > /args',
          "ENV ONE=env",
          'RUN echo "$ONE" >> /args',
        ),
      ],
      fields: { build_args: { ONE: "given", TWO: "two words" } },
    },
    {
      name: "ONBUILD",
      files: [
        dockerfile(
          `FROM ${BASE} AS base`,
          "ONBUILD RUN echo triggered > /trigger",
          "ONBUILD COPY a /",
          "FROM base",
          "ENV X=y",
        ),
        A,
      ],
    },
    {
      name: "ONBUILD in the image's configuration",
      files: [dockerfile("FROM scratch", "ONBUILD COPY . /", "COPY a /"), A],
    },
    {
      name: "COPY with --link, --chmod and --chown",
      files: [
        dockerfile(
          "FROM scratch",
          "COPY --link a /link/",
          "COPY --chmod=0640 a /chmod",
          "COPY --chmod=4755 --chown=12:34 dir /owned",
          "COPY --chown=56 a /user",
          "COPY --link --chmod=700 --chown=1:1 . /all/",
        ),
        A,
        B,
      ],
    },
    {
      name: "COPY --chown with a name",
      files: [fromBase("RUN mkdir /etc && echo 'app:x:12:34::/:' > /etc/passwd", "COPY --chown=app a /")],
    },
    { name: "COPY --chown with an unknown name", files: [fromBase("COPY --chown=nobody-here a /"), A] },
    { name: "COPY --exclude", files: [dockerfile("FROM scratch", "COPY --exclude=dir . /"), A, B] },
    { name: "COPY --parents", files: [dockerfile("FROM scratch", "COPY --parents dir/b /"), A, B] },
    {
      name: "COPY to relative and odd destinations",
      files: [
        dockerfile(
          "FROM scratch",
          "WORKDIR /work",
          "COPY a .",
          "COPY a ./b",
          "COPY a sub/",
          "COPY dir ../dir",
          "COPY a /x/../y",
          "COPY a dir /both/",
        ),
        A,
        B,
      ],
    },
    { name: "COPY of two files to one name", files: [dockerfile("FROM scratch", "COPY a dir/b /one"), A, B] },
    {
      name: "COPY of a folder over a file",
      files: [dockerfile("FROM scratch", "COPY a /x", "COPY dir /x"), A, B],
    },
    {
      name: "COPY out of the context",
      files: [dockerfile("FROM scratch", "COPY ../../a /", "COPY /dir/../a /b"), A, B],
    },
    { name: "COPY of a missing file", files: [dockerfile("FROM scratch", "COPY absent /"), A] },
    {
      name: "COPY --from of a missing stage",
      files: [dockerfile("FROM scratch", "COPY --from=127.0.0.1:1/absent /a /"), A],
    },
    {
      name: "ADD of an archive and of a damaged one",
      files: [
        dockerfile(
          "FROM scratch",
          "ADD archive.tar /unpacked/",
          "ADD damaged.tar.gz /",
          "COPY archive.tar /",
        ),
        file("archive.tar", smallTar()),
        file("damaged.tar.gz", Buffer.from([0x1f, 0x8b, 8, 0])),
      ],
    },
    {
      name: "ADD of a URL that does not answer",
      files: [dockerfile("FROM scratch", "ADD http://127.0.0.1:1/x /")],
    },
    {
      name: "ADD of a git repository that does not answer",
      files: [dockerfile("FROM scratch", "ADD http://127.0.0.1:1/x.git /x")],
    },
    {
      name: "the escape directive",
      files: [
        dockerfile(
          "# escape=`",
          `FROM ${BASE}`,
          "ENV PATHS=C:\\x\\y `",
          "  OTHER=z",
          "RUN echo `",
          "  one > /one",
        ),
      ],
    },
    {
      name: "directives that are unknown, repeated or late",
      files: [dockerfile("# unknown=x", "# escape=`", "FROM scratch", "# escape=\\", "COPY . /")],
    },
    {
      name: "the escape directive twice",
      files: [dockerfile("# escape=`", "# escape=\\", "FROM scratch", "COPY . /")],
    },
    {
      name: "a syntax directive that names no image",
      files: [dockerfile("# syntax=127.0.0.1:1/absent/frontend", "FROM scratch", "COPY . /")],
    },
    {
      name: "a syntax directive after a comment",
      files: [dockerfile("# a comment", "# syntax=127.0.0.1:1/absent/frontend", "FROM scratch", "COPY . /")],
    },
    {
      name: "a syntax directive in a script's first line",
      files: [
        dockerfile(
          "#!/usr/bin/docker build",
          "# syntax = 127.0.0.1:1/absent/frontend",
          "FROM scratch",
          "COPY . /",
        ),
      ],
    },
    {
      name: "SHELL, CMD and ENTRYPOINT in both forms",
      files: [
        fromBase(
          'SHELL ["/bin/busybox", "sh", "-e", "-c"]',
          "RUN echo one > /one",
          "CMD echo $HOME",
          'ENTRYPOINT exec x "y z"',
        ),
      ],
    },
    {
      name: "CMD that looks like JSON and is none",
      files: [fromBase("CMD ['a', 'b']", 'ENTRYPOINT ["a", 1]')],
    },
    {
      name: "a HEALTHCHECK with all options",
      files: [
        dockerfile(
          "FROM scratch",
          'HEALTHCHECK --interval=1m30s --timeout=3s --start-period=5s --start-interval=2s --retries=4 CMD ["/check", "a b"]',
          "COPY a /",
        ),
        A,
      ],
    },
    {
      name: "HEALTHCHECK NONE",
      files: [dockerfile("FROM scratch", "HEALTHCHECK CMD x", "HEALTHCHECK NONE", "COPY a /"), A],
    },
    {
      name: "EXPOSE, VOLUME, STOPSIGNAL, USER and WORKDIR",
      files: [
        dockerfile(
          "FROM scratch",
          "EXPOSE 80 443/tcp 53/udp 8000-8002",
          'VOLUME ["/data", "/a b"]',
          "VOLUME /x /y",
          "STOPSIGNAL SIGRTMIN+3",
          "USER 12:34",
          "WORKDIR /a",
          "WORKDIR b/$X",
          "WORKDIR ../c",
          "COPY a .",
        ),
        A,
      ],
    },
    {
      name: "LABEL with quotes, many pairs and old spelling",
      files: [
        dockerfile(
          "FROM scratch",
          'LABEL a="b c" "d e"=f g=h\\ i',
          "LABEL old spelling with spaces",
          'LABEL empty="" multi="one\\',
          'two"',
          "COPY a /",
        ),
        A,
      ],
    },
    {
      name: "ENV in both forms, with substitutions",
      files: [
        fromBase(
          "ENV A=b C=\"d e\" F='$A' G=\\$A",
          "ENV OLD one two  three",
          "ENV D=${A:+set} E=${NONE:-unset} H=${A:-x}y",
          "ENV EMPTY= I=${EMPTY-unset}",
          "RUN env | grep -v HOSTNAME | sort > /env",
        ),
      ],
    },
    {
      name: "a substitution that is not valid",
      files: [dockerfile("FROM scratch", "ENV A=${B", "COPY . /")],
    },
    {
      name: "a required variable",
      files: [dockerfile("FROM scratch", "ARG B", "ENV A=${B:?missing}", "COPY . /")],
    },
    {
      name: "RUN --mount=type=bind",
      files: [
        fromBase(
          "RUN --mount=type=bind,target=/context,rw cat /context/a > /one && echo x > /context/new && ls /context > /two",
          `RUN --mount=type=bind,from=${BASE},source=/bin,target=/other ls /other > /three`,
        ),
        A,
      ],
    },
    {
      name: "RUN --mount=type=tmpfs",
      files: [
        fromBase("RUN --mount=type=tmpfs,target=/scratch,size=1m echo x > /scratch/x && ls /scratch > /one"),
        A,
      ],
    },
    {
      name: "RUN --mount=type=cache",
      files: [
        fromBase(
          "RUN --mount=type=cache,target=/cache,uid=1,mode=0700 ls -ld /cache | cut -c1-10 > /one && echo x > /cache/x",
          `RUN --mount=type=cache,id=seeded,target=/seeded,from=${BASE},source=/bin ls /seeded > /two`,
        ),
      ],
    },
    {
      name: "RUN --mount=type=secret",
      files: [
        fromBase(
          "RUN --mount=type=secret,id=one cat /run/secrets/one > /one",
          "RUN --mount=type=secret,id=two,target=/x/y,mode=0444,uid=7 ls -ln /x/y | cut -c1-10 > /two",
          "RUN --mount=type=secret,id=absent ls /run > /three || true",
        ),
      ],
      fields: { secrets: { one: "first\nlines\n", two: "second" } },
    },
    {
      name: "RUN with a required secret that the job does not have",
      files: [fromBase("RUN --mount=type=secret,id=absent,required=true cat /run/secrets/absent")],
    },
    {
      name: "RUN --mount=type=ssh",
      files: [fromBase('RUN --mount=type=ssh echo "${SSH_AUTH_SOCK:-none}" > /one')],
    },
    { name: "RUN with a required ssh agent", files: [fromBase("RUN --mount=type=ssh,required=true true")] },
    {
      name: "RUN with a mount of an unknown type",
      files: [fromBase("RUN --mount=type=unknown,target=/x true")],
    },
    { name: "RUN --network=none", files: [fromBase("RUN --network=none ls /sys/class/net > /one")] },
    { name: "RUN --network=host", files: [fromBase("RUN --network=host true")] },
    { name: "RUN --security=insecure", files: [fromBase("RUN --security=insecure true")] },
    {
      name: "line ends and comments in the middle of an instruction",
      files: [
        fromBase(
          "RUN echo one \\",
          "# a comment",
          "",
          "  two > /one",
          "   # indented",
          "env A=b",
          "cOpY a /  ",
        ),
        A,
      ],
    },
    { name: "CRLF", files: [raw(CRLF), A] },
    {
      name: "CRLF and heredocs",
      files: [
        raw(
          lines(
            `FROM ${BASE}`,
            "RUN <<EOF",
            "echo one > /one",
            "EOF",
            "COPY <<EOF /two",
            "text",
            "EOF",
          ).replaceAll("\n", "\r\n"),
        ),
      ],
    },
    { name: "CR alone at the ends of lines", files: [raw("FROM scratch\rCOPY . /\r")] },
    { name: "a BOM", files: [raw("\ufeffFROM scratch\nCOPY . /\n"), A], inDefaultCheck: true },
    {
      name: "a BOM before a directive",
      files: [raw("\ufeff# escape=`\nFROM scratch\nENV A=`\n  b\nCOPY . /\n"), A],
    },
    { name: "a BOM and CRLF", files: [raw("\ufeffFROM scratch\r\nCOPY . /\r\n"), A] },
    {
      name: "UTF-16 with a BOM, little end first",
      files: [raw(Buffer.from("\ufeffFROM scratch\nCOPY . /\n", "utf16le"))],
    },
    {
      name: "UTF-16 with a BOM, big end first",
      files: [raw(Buffer.from("\ufeffFROM scratch\nCOPY . /\n", "utf16le").swap16())],
    },
    { name: "UTF-16 without a BOM", files: [raw(Buffer.from("FROM scratch\nCOPY . /\n", "utf16le"))] },
    {
      name: "Latin 1 in a comment and in a value",
      files: [raw(Buffer.from("FROM scratch\n# \xe9\nLABEL a=\xe9\nCOPY . /\n", "latin1"))],
    },
    { name: "a NUL", files: [raw("FROM scratch\nLABEL a=b\0c\nCOPY . /\n")] },
    {
      name: "tabs, form feeds and no-break spaces",
      files: [raw("\tFROM\tscratch\n\fCOPY . /\nLABEL\u00a0a=b\n")],
    },
    { name: "an empty Dockerfile", files: [raw(""), A] },
    { name: "a Dockerfile of comments", files: [raw("# nothing\n\n"), A] },
    { name: "a Dockerfile without FROM", files: [raw("COPY a /\n"), A] },
    { name: "a Dockerfile with an unknown instruction", files: [raw("FROM scratch\nFETCH a /\n"), A] },
    { name: "a Dockerfile with FROM alone", files: [raw("FROM scratch\n"), A] },
    { name: "an image without a layer", files: [raw("FROM scratch\nENV A=b\n")] },
    { name: "no line break at the end", files: [raw("FROM scratch\nCOPY a /"), A] },
    { name: "a backslash at the end", files: [raw("FROM scratch\nCOPY a / \\"), A] },
    {
      name: "a line of 60,000 bytes",
      files: [raw(`FROM scratch\nENV A=${"x".repeat(60_000)}\nCOPY a /\n`), A],
    },
    {
      name: "a line of 70,000 bytes",
      files: [raw(`FROM scratch\nENV A=${"x".repeat(70_000)}\nCOPY a /\n`), A],
    },
    {
      name: "a Dockerfile of 1 MB",
      files: [raw(`FROM scratch\n${`# ${"x".repeat(1_000)}\n`.repeat(1_000)}COPY a /\n`), A],
    },
    {
      name: "a Dockerfile of 3 MB",
      files: [raw(`FROM scratch\n${`# ${"x".repeat(1_000)}\n`.repeat(3_000)}COPY a /\n`), A],
    },
    {
      name: "130 layers",
      files: [dockerfile("FROM scratch", ...Array.from({ length: 130 }, (_, at) => `COPY a /${at}`)), A],
    },
    {
      name: "100 stages",
      files: [
        dockerfile(
          "FROM scratch AS s0",
          "COPY a /0",
          ...Array.from({ length: 99 }, (_, at) => `FROM s${at} AS s${at + 1}`),
          "COPY a /end",
        ),
        A,
      ],
    },
    {
      name: "a stage that uses itself",
      files: [dockerfile("FROM scratch AS one", "COPY --from=one /a /"), A],
    },
    {
      name: "a stage named like a later one",
      files: [
        dockerfile(
          "FROM scratch AS x",
          "COPY a /one",
          "FROM x AS x",
          "COPY a /two",
          "FROM x",
          "COPY a /three",
        ),
        A,
      ],
    },
    {
      name: "stages with odd names",
      files: [dockerfile("FROM scratch AS a.b-c_1", "COPY a /", "FROM a.b-c_1"), A],
    },
    { name: "a stage name that is not valid", files: [dockerfile("FROM scratch AS 1x", "COPY a /"), A] },
    {
      name: "a base image that does not exist",
      files: [dockerfile("FROM 127.0.0.1:1/absent", "COPY a /"), A],
    },
    { name: "a base image name that is not valid", files: [dockerfile("FROM UPPER/case:", "COPY a /"), A] },
    { name: "an empty base image name", files: [dockerfile("ARG X", "FROM $X", "COPY a /"), A] },
    {
      name: "predefined arguments of platforms",
      files: [
        fromBase(
          "ARG TARGETPLATFORM",
          "ARG BUILDPLATFORM TARGETARCH TARGETOS TARGETVARIANT",
          'RUN echo "$TARGETPLATFORM $BUILDPLATFORM $TARGETARCH $TARGETOS $TARGETVARIANT" > /platform',
        ),
      ],
    },
    {
      name: "predefined arguments of proxies, without a value",
      files: [
        fromBase(
          "ARG HTTP_PROXY",
          'RUN echo "${HTTP_PROXY:-none} ${http_proxy:-none} ${NO_PROXY:-none}" > /proxies',
        ),
      ],
    },
    {
      name: "the environment of a RUN step",
      files: [
        fromBase(
          "RUN env | grep -v HOSTNAME | sort > /env; id > /id; cat /etc/resolv.conf > /resolv; pwd > /pwd; umask > /umask; ulimit -a > /limits",
        ),
      ],
    },
    {
      name: "files that RUN makes: owners, modes, links, devices and extended modes",
      files: [
        fromBase(
          "RUN mkdir -m 1777 /sticky && echo x > /sticky/x && ln /sticky/x /hard && ln -s x /sticky/l && chown 5:6 /hard && chmod 6755 /sticky/x && mkfifo /fifo && touch '/n\\\nl'",
        ),
      ],
    },
    {
      name: "files that RUN removes and replaces",
      files: [
        fromBase(
          "COPY . /all",
          "RUN rm /all/a && rm -r /all/dir && mkdir /all/dir && echo new > /all/dir/new && rm -r /bin/sh && ln -s busybox /bin/sh",
        ),
        A,
        B,
      ],
    },
    {
      name: "a program of the repository that RUN starts",
      files: [
        fromBase("COPY . /all", "RUN /all/run.sh"),
        program("run.sh", "#!/bin/busybox sh\necho started > /started\n"),
      ],
    },
    {
      name: "a program of the repository without a line break before CR",
      files: [
        fromBase("COPY . /all", "RUN /all/run.sh"),
        program("run.sh", "#!/bin/busybox sh\r\necho started\r\n"),
      ],
    },
    {
      name: "MAINTAINER",
      files: [dockerfile("FROM scratch", "MAINTAINER A B <a@example.com>", "COPY a /"), A],
    },
  ],
};

/** An archive with one file, as `tar` writes it. */
function smallTar(): Uint8Array {
  const header = Buffer.alloc(512);
  header.write("inside");
  header.write("0000644\x000000000\x000000000\x0000000000002\x0000000000000\0        0", 100, "latin1");
  header.write("ustar\x0000", 257, "latin1");
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  const content = Buffer.alloc(512);
  content.write("x\n");
  return Buffer.concat([header, content, Buffer.alloc(1024)]);
}
