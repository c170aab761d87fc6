/** The repository that the drill's jobs build: real builds, most of them quick, some long, some failing. */
import { sampleRepository } from "../../support/machine/sample-repository.ts";
import type { Site } from "../site/site.ts";
import { REPOSITORY } from "./job.ts";
import { ECR_REPOSITORIES } from "./plan.ts";

export async function createRepositories(site: Site): Promise<void> {
  for (const name of ECR_REPOSITORIES) site.addEcrRepository(name);
  await site.backends.git.createRepository(REPOSITORY, {
    ...(await sampleRepository({ greeting: site.mark })),
    Dockerfile: dockerfile(site.mark),
  });
}

/** The random line makes the images of two attempts differ, unless the second attempt reuses the cached step. */
function dockerfile(mark: string): string {
  const script = [
    `echo ${mark} $JOB`,
    "/bin/busybox sleep $SECONDS",
    "/bin/busybox cat /proc/sys/kernel/random/uuid > /printed",
    "exit $STATUS",
  ];
  return [
    "FROM scratch",
    "COPY bin/busybox /bin/busybox",
    "COPY greeting /greeting",
    "ARG JOB",
    "ARG SECONDS",
    "ARG STATUS",
    `RUN ${JSON.stringify(["/bin/busybox", "sh", "-c", script.join("; ")])}`,
    "",
  ].join("\n");
}
