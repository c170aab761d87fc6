import { COPY_ALL, dockerfile, file, type Kind, link } from "../input.ts";

const APP = "FROM scratch\nCOPY . /\n";

export const LINKS: Kind = {
  name: "links",
  inputs: [
    {
      name: "links that lead nowhere, to themselves, in a circle and out of the repository",
      files: [
        COPY_ALL,
        link("nowhere", "absent"),
        link("self", "self"),
        link("one", "two"),
        link("two", "one"),
        link("out", "../../.."),
        link("absolute", "/etc/passwd"),
      ],
      inDefaultCheck: true,
    },
    {
      name: "a link to a folder",
      files: [COPY_ALL, link("linked", "folder"), file("folder/a", "a\n"), link("folder/up", "..")],
    },
    {
      name: "COPY of a link to a file and of one to a folder",
      files: [
        dockerfile(
          "FROM scratch",
          "COPY linked /one",
          "COPY to-folder /two",
          "COPY to-folder/ /three/",
          "COPY to-folder/a /four",
        ),
        link("linked", "folder/a"),
        link("to-folder", "folder"),
        file("folder/a", "a\n"),
      ],
    },
    {
      name: "COPY of a link out of the repository",
      files: [dockerfile("FROM scratch", "COPY out /x"), link("out", "../outside")],
    },
    {
      name: "COPY of an absolute link",
      files: [dockerfile("FROM scratch", "COPY out /x"), link("out", "/folder/a"), file("folder/a", "a\n")],
    },
    {
      name: "COPY of a link in a circle",
      files: [dockerfile("FROM scratch", "COPY one /x"), link("one", "two"), link("two", "one")],
    },
    {
      name: "a chain of 30 links",
      files: [
        dockerfile("FROM scratch", "COPY l0 /x"),
        ...Array.from({ length: 30 }, (_, at) => link(`l${at}`, `l${at + 1}`)),
        file("l30", "end\n"),
      ],
    },
    {
      name: "a chain of 60 links",
      files: [
        dockerfile("FROM scratch", "COPY l0 /x"),
        ...Array.from({ length: 60 }, (_, at) => link(`l${at}`, `l${at + 1}`)),
        file("l60", "end\n"),
      ],
    },
    {
      name: "targets with a line break, spaces and Unicode",
      files: [
        COPY_ALL,
        link("a", "line\nbreak"),
        link("b", " x "),
        link("c", "\u00fc"),
        link("d", "-x"),
        link("e", "a//b/./c/.."),
      ],
    },
    { name: "a target of 4,000 bytes", files: [COPY_ALL, link("long", "t".repeat(4_000))] },
    { name: "a target of 5,000 bytes", files: [COPY_ALL, link("long", "t".repeat(5_000))] },
    { name: "a target that is not UTF-8", files: [COPY_ALL, link("a", Buffer.from([0xff, 0xfe]))] },
    { name: "an empty target", files: [COPY_ALL, link("a", "")] },
    { name: "a target with a NUL", files: [COPY_ALL, link("a", "b\0c"), file("b", "b\n")] },
    {
      name: "the Dockerfile is a link",
      files: [link("Dockerfile", "docker/app"), file("docker/app", APP), file("a", "a\n")],
      inDefaultCheck: true,
    },
    {
      name: "the Dockerfile is a link to a link",
      files: [link("Dockerfile", "one"), link("one", "docker/app"), file("docker/app", APP)],
    },
    { name: "the Dockerfile is a link that leads nowhere", files: [link("Dockerfile", "absent")] },
    { name: "the Dockerfile is a link to itself", files: [link("Dockerfile", "Dockerfile")] },
    {
      name: "the Dockerfile is a link to a folder",
      files: [link("Dockerfile", "folder"), file("folder/a", "a")],
    },
    {
      name: "the Dockerfile is a link out of the repository",
      files: [link("Dockerfile", "../../../../../etc/hostname")],
    },
    {
      name: "the Dockerfile is an absolute link",
      files: [link("Dockerfile", "/docker/app"), file("docker/app", APP)],
      differs: {
        reason: "BuildKit takes the Dockerfile's folder for the root, git and the system do not",
        documented: {
          page: "docs/building.md",
          says: "A link with an absolute target names a file of the worker's machine, and is not followed",
        },
        reference: "built",
        blacktree: "DOCKERFILE_NOT_FOUND",
      },
    },
    {
      name: "the Dockerfile of a context is a link out of the context",
      files: [link("app/Dockerfile", "../shared"), file("shared", APP), file("app/a", "a\n")],
      fields: { context: "app" },
      differs: {
        reason: "several contexts share a Dockerfile by links",
        documented: {
          page: "docs/building.md",
          says: "also out of its folder, which Docker alone does not support",
        },
        reference: "failed",
        blacktree: "built",
      },
    },
    {
      name: "the Dockerfile is in a linked folder",
      files: [link("linked", "docker"), file("docker/app", APP)],
      fields: { dockerfile: "linked/app" },
    },
    {
      name: "the context is a link to a folder",
      files: [link("linked", "app"), file("app/Dockerfile", APP), file("app/a", "a\n")],
      fields: { context: "linked" },
    },
    {
      name: "the context is a link to the root of the repository",
      files: [link("linked", "."), COPY_ALL, file("a", "a\n")],
      fields: { context: "linked" },
    },
    {
      name: "the context goes through a link and up",
      files: [
        link("x/linked", "../app/deep"),
        file("app/Dockerfile", APP),
        file("app/deep/a", "a\n"),
        file("x/Dockerfile", "FROM absent\n"),
      ],
      fields: { context: "x/linked/.." },
    },
    {
      name: "a Dockerfile with its ignore file, both behind a link",
      files: [
        link("Dockerfile", "docker/app"),
        file("docker/app", APP),
        file("docker/app.dockerignore", "a\n"),
        file("Dockerfile.dockerignore", "b\n"),
        file("a", "a"),
        file("b", "b"),
      ],
    },
    {
      name: "a Dockerfile that is a link, and an ignore file of its target alone",
      files: [
        link("Dockerfile", "docker/app"),
        file("docker/app", APP),
        file("docker/app.dockerignore", "a\n"),
        file("a", "a"),
        file("b", "b"),
      ],
    },
    {
      name: ".dockerignore is a link",
      files: [
        COPY_ALL,
        link(".dockerignore", "ignored"),
        file("ignored", "a\n"),
        file("a", "a"),
        file("b", "b"),
      ],
    },
    {
      name: ".dockerignore is a link that leads nowhere",
      files: [COPY_ALL, link(".dockerignore", "absent"), file("a", "a")],
    },
    {
      name: "an ignore file that excludes the target of a link",
      files: [COPY_ALL, link("linked", "folder/a"), file("folder/a", "a"), file(".dockerignore", "folder\n")],
    },
    {
      name: "COPY of a link whose target is ignored",
      files: [
        dockerfile("FROM scratch", "COPY linked /x"),
        link("linked", "folder/a"),
        file("folder/a", "a"),
        file(".dockerignore", "folder\n"),
      ],
    },
    {
      name: "a hundred links to one file",
      files: [
        COPY_ALL,
        file("a", "a\n"),
        ...Array.from({ length: 100 }, (_, at) => link(`links/${at}`, "../a")),
      ],
    },
  ],
};
