/**
 * A run's login at its registry. Its credentials may end before the run does, and a registry may refuse them before
 * their time: then there are others, and everybody who uses this login goes on with those.
 */

import { orAbort, sleep } from "../../shared/abort.ts";
import { StepFailure } from "../job/failure.ts";
import type { RegistryAccess } from "./access.ts";

export interface RegistryLoginOptions {
  /** Called with new credentials before anybody uses them. */
  readonly onRenewed: (access: RegistryAccess) => Promise<void>;
  readonly log: (line: string) => void;
}

/** Whatever a registry says of the time, it is not asked for new credentials more often. */
const MIN_RENEWAL_INTERVAL_MS = 1000;
/** Longer than timers can wait. */
const MAX_WAIT_MS = 24 * 3_600_000;
const RETRY_INTERVAL_MS = 15_000;

export class RegistryLogin {
  readonly #options: RegistryLoginOptions | undefined;
  #access: RegistryAccess;
  #pending: Promise<boolean> | undefined;

  constructor(access: RegistryAccess, options?: RegistryLoginOptions) {
    this.#access = access;
    this.#options = options;
  }

  /** As it is now. */
  get access(): RegistryAccess {
    return this.#access;
  }

  /** False when there are no other credentials; the log says why. One renewal at a time, for however many callers. */
  renew(): Promise<boolean> {
    this.#pending ??= this.#renewOnce().finally(() => {
      this.#pending = undefined;
    });
    return this.#pending;
  }

  /**
   * Keeps the credentials fresh while `push` goes on. A program that read them at its start may still be refused at
   * its end, so a push that the registry refuses is done once more, with new ones.
   */
  async pushing<T>(push: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const done = new AbortController();
    void this.#keepFresh(AbortSignal.any([signal, done.signal]));
    try {
      return await push();
    } catch (error) {
      if (!isRefused(error) || !(await orAbort(this.renew(), signal))) throw error;
      this.#options?.log(`${error.message}; pushing again with new credentials`);
      return await push();
    } finally {
      done.abort();
    }
  }

  async #renewOnce(): Promise<boolean> {
    const { renew } = this.#access;
    if (!renew) return false;
    try {
      const renewed = { ...this.#access, ...(await renew()) };
      await this.#options?.onRenewed(renewed);
      this.#access = renewed;
      return true;
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.#options?.log(`the registry's credentials could not be renewed: ${why}`);
      return false;
    }
  }

  async #keepFresh(signal: AbortSignal): Promise<void> {
    let waitMs = this.#usableForMs();
    while (waitMs !== undefined && (await isAwake(waitMs, signal))) {
      waitMs = (await this.renew()) ? this.#usableForMs() : RETRY_INTERVAL_MS;
    }
  }

  #usableForMs(): number | undefined {
    const { usableUntilMs } = this.#access;
    if (usableUntilMs === undefined) return undefined;
    return Math.min(MAX_WAIT_MS, Math.max(MIN_RENEWAL_INTERVAL_MS, usableUntilMs - Date.now()));
  }
}

/** False when there was no need to wait to the end. */
function isAwake(waitMs: number, signal: AbortSignal): Promise<boolean> {
  return sleep(waitMs, signal).then(
    () => true,
    () => false,
  );
}

function isRefused(error: unknown): error is StepFailure {
  return error instanceof StepFailure && error.failure.code === "ECR_AUTH";
}
