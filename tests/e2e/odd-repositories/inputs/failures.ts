/** Builds that fail, for their messages and logs. */
import { BASE, dockerfile, file, type Kind, program } from "../input.ts";

const run = (...steps: readonly string[]) => [dockerfile(`FROM ${BASE}`, ...steps), file("a", "a\n")];

export const FAILURES: Kind = {
  name: "failures",
  inputs: [
    { name: "a step that fails", files: run("RUN echo out; echo err >&2; exit 3"), inDefaultCheck: true },
    { name: "a step whose program does not exist", files: run("RUN absent-program", "RUN true") },
    { name: "a step whose program in JSON does not exist", files: run('RUN ["/absent"]') },
    { name: "a step whose program cannot be executed", files: run("COPY a /a", 'RUN ["/a"]') },
    {
      name: "a step whose interpreter does not exist",
      files: [dockerfile(`FROM ${BASE}`, "COPY run.sh /", "RUN /run.sh"), program("run.sh", "#!/absent\n")],
    },
    { name: "a step of an image without a shell", files: [dockerfile("FROM scratch", "RUN true")] },
    { name: "a step that ends itself with SIGKILL", files: run("RUN kill -9 $$") },
    { name: "a step that ends itself with SIGTERM", files: run("RUN kill -15 $$") },
    { name: "a step that ends with status 255", files: run("RUN exit 255") },
    { name: "a step that ends with status 137", files: run("RUN exit 137") },
    {
      name: "a step that prints no line break, control characters and bad UTF-8",
      files: run("RUN printf 'a\\rb\\033[31mc\\377\\000d'; exit 1"),
    },
    {
      name: "a step that prints a line of 1 MB",
      files: run("RUN head -c 1000000 /dev/zero | tr '\\0' x; exit 1"),
    },
    {
      name: "a step that prints messages of docker and git",
      files: run(
        "RUN echo 'ERROR: failed to push x'; echo 'fatal: repository not found'; echo 'Cannot connect to the Docker daemon'; exit 1",
      ),
    },
    { name: "a step that prints a disk's error", files: run("RUN echo 'No space left on device'; exit 28") },
    { name: "a step as an unknown user", files: run("USER nobody-here", "RUN true") },
    { name: "a step in a folder that is a file", files: run("COPY a /a", "WORKDIR /a", "RUN true") },
    {
      name: "a step with a mount over a missing source",
      files: run("RUN --mount=type=bind,source=absent,target=/x true"),
    },
    {
      name: "a step with a mount from a missing stage",
      files: run("RUN --mount=type=bind,from=127.0.0.1:1/absent,target=/x true"),
    },
    {
      name: "a step with a cache of an unknown sharing",
      files: run("RUN --mount=type=cache,target=/x,sharing=odd true"),
    },
    { name: "COPY with one argument", files: run("COPY a") },
    { name: "COPY of an empty name", files: run('COPY ["", "/x"]') },
    { name: "COPY with an unknown flag", files: run("COPY --odd a /") },
    { name: "COPY with a mode that is not valid", files: run("COPY --chmod=rwx a /") },
    { name: "COPY --from of a missing file", files: run(`COPY --from=${BASE} /absent /`) },
    { name: "COPY of a pattern that is not valid", files: run("COPY [a /") },
    { name: "COPY of a pattern below a missing folder", files: run("COPY absent/*/x /") },
    {
      name: "COPY --chown with a name and no passwd",
      files: [dockerfile("FROM scratch", "COPY --chown=app a /"), file("a")],
    },
    { name: "FROM with three arguments", files: [dockerfile("FROM a b c")] },
    {
      name: "FROM with a platform that is not valid",
      files: [dockerfile("FROM --platform=odd/x/y/z scratch", "COPY . /")],
    },
    { name: "FROM with an unknown flag", files: [dockerfile("FROM --odd scratch")] },
    { name: "ENV without a value", files: run("ENV A") },
    { name: "EXPOSE of a port that is not valid", files: run("EXPOSE odd") },
    { name: "EXPOSE of a port above all ports", files: run("EXPOSE 99999") },
    { name: "STOPSIGNAL that is not valid", files: run("STOPSIGNAL SIGODD") },
    { name: "HEALTHCHECK with a time that is not valid", files: run("HEALTHCHECK --interval=odd CMD x") },
    { name: "HEALTHCHECK of an unknown type", files: run("HEALTHCHECK ODD") },
    { name: "SHELL without a list", files: run("SHELL sh -c") },
    { name: "ONBUILD of FROM", files: run("ONBUILD FROM scratch") },
    {
      name: "ONBUILD of a missing file",
      files: [dockerfile(`FROM ${BASE} AS x`, "ONBUILD COPY absent /", "FROM x")],
    },
    { name: "WORKDIR without a path", files: run("WORKDIR") },
    { name: "ARG that is not valid", files: run("ARG =x") },
    {
      name: "two stages that use each other",
      files: [
        dockerfile(
          "FROM scratch AS one",
          "COPY --from=two /a /",
          "FROM scratch AS two",
          "COPY --from=one /a /",
        ),
      ],
    },
    { name: "an instruction in JSON that is not closed", files: run('RUN ["a", "b"') },
    {
      name: "a Dockerfile that is a program",
      files: [file("Dockerfile", Buffer.from("\x7fELF\x02\x01\x01\x00", "latin1"))],
    },
    {
      name: "a Dockerfile that is a page of HTML",
      files: [file("Dockerfile", "<!DOCTYPE html>\n<html></html>\n")],
    },
  ],
};
