import { StepFailure } from "../job/failure.ts";
import { type DockerBuild, dockerBuild } from "./build.ts";
import type { PushedImage, RegistryCache } from "./builder.ts";
import { RawProgress } from "./progress/rawjson.ts";

/** Longer, and the next build will have stored the same. */
const MAX_CACHE_EXPORT_MS = 600_000;

/**
 * BuildKit pushes the image first, and stores the cache then. Comes back when the image is pushed; storing goes on
 * as the image's `cacheExport`, whatever becomes of the run.
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
    // The run may have ended, and its log with it.
    log: (line) => void (isPushed || request.log(line)),
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
  // Whoever waits for it hears of it; nobody may.
  cacheExport.catch(() => undefined);
  return { digest, tagged: false, cacheExport };
}

function neverPushed(): never {
  throw new Error("buildx ended well and did not say which image it has pushed");
}

/** BuildKit takes a cache's word for it, and finds only when it needs a layer that the registry has it no more. */
export function isBrokenCache(error: unknown): error is StepFailure {
  return error instanceof StepFailure && /could not fetch content descriptor/.test(error.message);
}

/** Follows one signal up to a moment, and another one from then on. */
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
