/** The output of a container of the sample's image. */
export const sampleGreeting = "hello from the sample image";

export interface SampleRepositoryOptions {
  /**
   * `failing` ends its RUN step with status 3; `slow` sleeps in it; `stubborn` sleeps, and ignores SIGTERM; `none` has
   * no Dockerfile.
   */
  variant?: "working" | "failing" | "slow" | "stubborn" | "none";
  /** Duration of the RUN step in the variants that sleep. */
  sleepSeconds?: number;
  /** Stored in the image, so that two samples have different digests. */
  greeting?: string;
}

export type RepositoryFiles = Record<string, string | Uint8Array>;

const runSteps = {
  working: () =>
    'RUN ["/bin/busybox", "sh", "-c", "echo the RUN step works; /bin/busybox cat /greeting > /printed"]',
  failing: () => 'RUN ["/bin/busybox", "sh", "-c", "echo this step fails; exit 3"]',
  slow: (seconds: number) =>
    `RUN ["/bin/busybox", "sh", "-c", "echo this step sleeps; /bin/busybox sleep ${seconds}; /bin/busybox cat /greeting > /printed"]`,
  stubborn: (seconds: number) =>
    `RUN ["/bin/busybox", "sh", "-c", "trap '' TERM; echo this step sleeps; /bin/busybox sleep ${seconds}; echo no end"]`,
};

function dockerfile(variant: keyof typeof runSteps, sleepSeconds: number): string {
  return [
    "FROM scratch",
    "COPY bin/busybox /bin/busybox",
    "COPY greeting /greeting",
    runSteps[variant](sleepSeconds),
    'CMD ["/bin/busybox", "cat", "/printed"]',
    "",
  ].join("\n");
}

export async function staticBusybox(): Promise<Uint8Array> {
  const path = Bun.which("busybox");
  if (path === null) throw new Error("busybox is not installed; the package is busybox-static");
  return Bun.file(path).bytes();
}

/**
 * A small repository whose image needs neither a base image nor the network: it contains a static busybox. The files
 * below bin/ must be committed as executable.
 */
export async function sampleRepository(options: SampleRepositoryOptions = {}): Promise<RepositoryFiles> {
  const { variant = "working", sleepSeconds = 60, greeting = sampleGreeting } = options;
  const files: RepositoryFiles = { "README.md": "# A sample\n", greeting: `${greeting}\n` };
  if (variant === "none") return files;
  return {
    ...files,
    "bin/busybox": await staticBusybox(),
    Dockerfile: dockerfile(variant, sleepSeconds),
  };
}
