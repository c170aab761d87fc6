/**
 * A run's login at its registry. The credentials may expire before the run ends, and a registry may refuse them even
 * earlier. Then they are renewed, and all users of the login get the new ones.
 */

import { orAbort, sleep } from "../../shared/abort.ts";
import { StepFailure } from "../job/failure.ts";
import type { RegistryAccess } from "./access.ts";

export interface RegistryLoginOptions {
  /** Called with new credentials before they are used. */
  readonly onRenewed: (access: RegistryAccess) => Promise<void>;
  readonly log: (line: string) => void;
}

/** Minimum time between renewals, whatever expiry time a registry returns. */
const MIN_RENEWAL_INTERVAL_MS = 1000;
/** A timer cannot wait longer than 24.8 days, so it waits at most this long and then renews. */
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

  /** With the current credentials. */
  get access(): RegistryAccess {
    return this.#access;
  }

  /** False when the renewal is not possible or fails, which is logged. Concurrent callers share one renewal. */
  renew(): Promise<boolean> {
    this.#pending ??= this.#renewOnce().finally(() => {
      this.#pending = undefined;
    });
    return this.#pending;
  }

  /**
   * Renews the credentials before they expire during `push`. The registry may still refuse a program that has read the
   * old credentials at its start, so a refused push is retried once with new credentials.
   */
  async pushing<T>(push: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const done = new AbortController();
    void this.#keepFresh(AbortSignal.any([signal, done.signal]));
    try {
      return await push();
    } catch (error) {
      if (!isRefused(error) || !(await orAbort(this.renew(), signal))) throw error;
      this.#options?.log(`${error.message}; retrying the push with new credentials`);
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
      this.#options?.log(`failed to renew the registry credentials: ${why}`);
      return false;
    }
  }

  async #keepFresh(signal: AbortSignal): Promise<void> {
    let waitMs = this.#usableForMs();
    while (waitMs !== undefined && (await waited(waitMs, signal))) {
      waitMs = (await this.renew()) ? this.#usableForMs() : RETRY_INTERVAL_MS;
    }
  }

  #usableForMs(): number | undefined {
    const { usableUntilMs } = this.#access;
    if (usableUntilMs === undefined) return undefined;
    return Math.min(MAX_WAIT_MS, Math.max(MIN_RENEWAL_INTERVAL_MS, usableUntilMs - Date.now()));
  }
}

/** False when the wait was aborted. */
function waited(waitMs: number, signal: AbortSignal): Promise<boolean> {
  return sleep(waitMs, signal).then(
    () => true,
    () => false,
  );
}

function isRefused(error: unknown): error is StepFailure {
  return error instanceof StepFailure && error.failure.code === "ECR_AUTH";
}
