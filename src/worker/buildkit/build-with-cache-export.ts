import { type DockerBuild, dockerBuild } from "./build.ts";
import type { PushedImage, RegistryCache } from "./builder.ts";
import { RawProgress } from "./progress/rawjson.ts";

/** After this time the next build will have exported the same cache. */
const MAX_CACHE_EXPORT_MS = 600_000;

/**
 * BuildKit pushes the image first and exports the cache afterwards. Resolves when the image is pushed; the export
 * continues as the image's `cacheExport`, however the run ends.
 */
export async function buildWithCacheExport(
  { request, ...build }: Omit<DockerBuild, "progress">,
  { exportSignal }: RegistryCache,
): Promise<PushedImage> {
  const pushed = Promise.withResolvers<string>();
  const signal = new SwitchableSignal(request.signal);
  let isPushed = false;
  const progress = new RawProgress({
    ...request,
    // After the push the run may have ended, and its log with it.
    output: (line) => void (isPushed || request.output(line)),
    onPushed: (digest) => {
      isPushed = true;
      signal.switchTo(AbortSignal.any([exportSignal, AbortSignal.timeout(MAX_CACHE_EXPORT_MS)]));
      pushed.resolve(digest);
    },
  });
  const ended = dockerBuild({ ...build, request: { ...request, signal: signal.signal }, progress });
  const digest = await Promise.race([pushed.promise, ended.then(() => neverPushed())]);
  const cacheExport = ended.then(() => {
    if (progress.cacheError !== "") throw new Error(progress.cacheError);
  });
  // The caller may never await the export: its failure must not be an unhandled rejection.
  cacheExport.catch(() => undefined);
  return { digest, tagged: false, cacheExport };
}

function neverPushed(): never {
  throw new Error("buildx succeeded without reporting the digest of the pushed image");
}

/** Follows one signal until switchTo, and another one from then on. */
class SwitchableSignal {
  readonly #controller = new AbortController();
  #unfollow: () => void = () => undefined;

  constructor(first: AbortSignal) {
    this.#follow(first);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  switchTo(next: AbortSignal): void {
    this.#unfollow();
    this.#follow(next);
  }

  #follow(signal: AbortSignal): void {
    const abort = () => this.#controller.abort(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
    this.#unfollow = () => signal.removeEventListener("abort", abort);
  }
}
