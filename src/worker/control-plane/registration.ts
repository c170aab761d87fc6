/** Registers the worker at its start and again whenever its lease has expired, and deregisters it at its end. */
import { status } from "@grpc/grpc-js";
import { sleep } from "../../shared/abort.ts";
import { Backoff } from "../../shared/backoff.ts";
import type { Logger } from "../../shared/logging.ts";
import { callUnary } from "../../shared/rpc/call.ts";
import type { RegisterAck, WorkerInfo } from "../../shared/rpc/generated/blacktree/v1/orchestrator.ts";
import { hasStatus } from "../../shared/rpc/status.ts";
import { ORCHESTRATOR_DEADLINE_MS, type Orchestrators } from "./orchestrator-client.ts";

export interface RegistrationListener {
  /** The attempt failed and is repeated. */
  waiting(reason: string): void;
  registered(): void;
}

export class Registration {
  /** Monotonic, since a wall clock that is set back would delay the next registration by as much. */
  #lastPingAtMs = Number.NEGATIVE_INFINITY;
  #wasRegistered = false;
  #isRenewalDue = false;
  #wake: () => void = () => undefined;

  constructor(
    private readonly orchestrators: Orchestrators,
    /** Called for each registration, since the held runs change. */
    private readonly describe: () => WorkerInfo,
    private readonly listener: RegistrationListener,
    private readonly logger: Logger,
  ) {}

  /** An orchestrator has pinged, so the worker's lease is renewed. */
  readonly pinged = (): void => {
    this.#lastPingAtMs = performance.now();
  };

  /** The worker's description has changed: registers again now, under the same incarnation. */
  renew(): void {
    this.#isRenewalDue = true;
    this.#wake();
  }

  /** Resolves when `signal` aborts. */
  async keep(signal: AbortSignal): Promise<void> {
    try {
      for (;;) {
        this.#isRenewalDue = false;
        const ack = await this.#register(signal);
        this.#wasRegistered = true;
        this.#lastPingAtMs = performance.now();
        this.listener.registered();
        await this.#untilRegistrationIsDue(ack.leaseTtlMs, signal);
        if (!this.#isRenewalDue)
          this.logger.warn({ lease_ttl_ms: ack.leaseTtlMs }, "no ping for a lease time, registering again");
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  /** @throws RpcError when no orchestrator answers; the lease then expires. */
  async deregister(): Promise<void> {
    if (!this.#wasRegistered) return;
    const { workerId, incarnation } = this.describe();
    await this.orchestrators.ask((client) =>
      callUnary(
        client.deregister.bind(client),
        { workerId, incarnation },
        { deadlineMs: ORCHESTRATOR_DEADLINE_MS },
      ),
    );
    this.logger.info("deregistered");
  }

  /** Repeats while another live worker has this id, until that worker's lease expires. */
  async #register(signal: AbortSignal): Promise<RegisterAck> {
    const delay = new Backoff({ initialMs: 500, maxMs: 5000 });
    for (;;) {
      const info = this.describe();
      try {
        const ack = await this.orchestrators.askUntilAnswered(
          (client) => callUnary(client.register.bind(client), info, { deadlineMs: ORCHESTRATOR_DEADLINE_MS }),
          signal,
          (fault) => {
            this.listener.waiting(fault.message);
            return undefined;
          },
        );
        this.logger.info(
          { address: info.address, region: info.region, lease_ttl_ms: ack.leaseTtlMs },
          "registered",
        );
        return ack;
      } catch (error) {
        if (signal.aborted) throw error;
        const delayMs = delay.nextMs();
        const message = hasStatus(error, status.ALREADY_EXISTS)
          ? "another live worker has this id or address, retrying until its lease expires"
          : "registration refused, retrying";
        this.listener.waiting(`${message}: ${error instanceof Error ? error.message : error}`);
        this.logger.error({ err: error, retry_in_ms: delayMs }, message);
        await sleep(delayMs, signal);
      }
    }
  }

  async #untilRegistrationIsDue(leaseTtlMs: number, signal: AbortSignal): Promise<void> {
    while (!this.#isRenewalDue) {
      const silentMs = performance.now() - this.#lastPingAtMs;
      if (silentMs >= leaseTtlMs) return;
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      await Promise.race([sleep(leaseTtlMs - silentMs, signal), woken]);
    }
  }
}
