/**
 * Keeps the worker's builder usable: while Docker or BuildKit does not answer, or git or a plugin is missing, the worker
 * accepts no job. A builder that is back, or has changed, is detected again.
 */
import { isDeepStrictEqual } from "node:util";
import { sleep } from "../shared/abort.ts";
import type { Logger } from "../shared/logging.ts";
import type { EngineAccess, ImageBuilder } from "./buildkit/builder.ts";
import { connectTo, type Endpoint } from "./buildkit/builders/endpoint.ts";
import { missingGit } from "./prepare-builder.ts";

export interface BuilderWatchOptions {
  /** Where the builder listens; undefined when only docker knows how to connect, as with ssh. */
  readonly endpoint: Endpoint | undefined;
  /** @throws NoUsableBuilder */
  detect(signal: AbortSignal): Promise<ImageBuilder>;
  /** How the programs of the builder are called. */
  readonly access: Omit<EngineAccess, "signal">;
  readonly logger: Logger;
  /** The new builder has other capabilities than the one before. */
  onNewCapabilities(): void;
  readonly checkIntervalMs?: number;
  readonly checkTimeoutMs?: number;
}

const CHECK_INTERVAL_MS = 5000;
/** A machine at its limit answers within this time; a frozen engine never does. */
const CHECK_TIMEOUT_MS = 15_000;
/** Connecting needs no program and no answer. */
const CONNECT_TIMEOUT_MS = 2000;

export class BuilderWatch {
  readonly #options: BuilderWatchOptions;
  readonly #first = Promise.withResolvers<ImageBuilder>();
  readonly #stop = new AbortController();
  #builder: ImageBuilder | undefined;
  /** Of the builder at its last check; undefined before the first. */
  #identity: string | undefined;
  #refusal: string | undefined;
  #checking: Promise<void> | undefined;

  constructor(options: BuilderWatchOptions) {
    this.#options = options;
  }

  /** Why no job can be accepted now; undefined when one can. */
  get refusal(): string | undefined {
    return this.#refusal;
  }

  /** Resolves once one is known. */
  async builder(): Promise<ImageBuilder> {
    return this.#builder ?? (await this.#first.promise);
  }

  /** The builder that was found at the start. */
  begin(builder: ImageBuilder): void {
    this.#builder = builder;
    this.#first.resolve(builder);
  }

  /** Checks the builder until `signal` aborts; then returns. */
  async monitor(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.#stop.abort(signal.reason), { once: true });
    while (!signal.aborted) {
      await this.#check();
      await sleep(this.#options.checkIntervalMs ?? CHECK_INTERVAL_MS, signal).catch(() => undefined);
    }
  }

  /** For a job that is about to be accepted: costs no more than a connection. */
  async beforeJob(): Promise<void> {
    const { endpoint } = this.#options;
    if (this.#builder === undefined || this.#refusal !== undefined || endpoint === undefined) return;
    try {
      await connectTo(endpoint, CONNECT_TIMEOUT_MS);
    } catch (error) {
      this.#refuse(error);
    }
  }

  /** After a failure that the builder may have caused: checks it now, and returns why it is not usable, if so. */
  async problem(): Promise<string | undefined> {
    if (this.#checking) {
      // It may have asked the builder before the failure: only a fault that it finds counts.
      await this.#checking;
      if (this.#refusal !== undefined) return this.#refusal;
    }
    await this.#check();
    return this.#refusal;
  }

  /** One check at a time, however many runs have failed. */
  #check(): Promise<void> {
    this.#checking ??= this.#checkOnce().finally(() => {
      this.#checking = undefined;
    });
    return this.#checking;
  }

  async #checkOnce(): Promise<void> {
    try {
      const { builder, identity } = await this.#usableBuilder();
      if (this.#stop.signal.aborted) return;
      this.#identity = identity;
      this.#accept(builder);
    } catch (error) {
      if (!this.#stop.signal.aborted) this.#refuse(error);
    }
  }

  /** The same one while nothing has changed. @throws Error that says why there is none. */
  async #usableBuilder(): Promise<{ readonly builder: ImageBuilder; readonly identity: string }> {
    const { detect, access } = this.#options;
    const known = this.#builder;
    if (known && this.#refusal === undefined && missingGit(access.environment.PATH) === undefined) {
      const identity = await this.#identityOf(known).catch((error: unknown) => this.#refuse(error));
      if (identity !== undefined && (this.#identity ?? identity) === identity)
        return { builder: known, identity };
    }
    const builder = await detect(this.#stop.signal);
    return { builder, identity: await this.#identityOf(builder) };
  }

  async #identityOf(builder: ImageBuilder): Promise<string> {
    const timeoutMs = this.#options.checkTimeoutMs ?? CHECK_TIMEOUT_MS;
    const timeout = AbortSignal.timeout(timeoutMs);
    try {
      const signal = AbortSignal.any([this.#stop.signal, timeout]);
      return await builder.identity({ ...this.#options.access, signal });
    } catch (error) {
      if (!timeout.aborted) throw error;
      throw new Error(`no answer within ${timeoutMs} ms`, { cause: error });
    }
  }

  #accept(builder: ImageBuilder): void {
    const { logger, onNewCapabilities } = this.#options;
    const [before, wasRefusing] = [this.#builder, this.#refusal !== undefined];
    this.#builder = builder;
    this.#refusal = undefined;
    const fields = { builder: builder.kind, docker: builder.description };
    if (wasRefusing) logger.info(fields, "builder usable again; accepting jobs");
    else if (builder !== before) logger.info(fields, "Docker or BuildKit has changed; builder chosen again");
    if (!isDeepStrictEqual(builder.capabilities, before?.capabilities)) onNewCapabilities();
  }

  #refuse(error: unknown): undefined {
    const reason = error instanceof Error ? error.message : String(error);
    const wasRefusing = this.#refusal !== undefined;
    this.#refusal = `no usable builder: ${reason}`;
    if (!wasRefusing) this.#options.logger.error({ reason }, "not accepting jobs: no usable builder");
  }
}
