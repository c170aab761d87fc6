/** Client for all orchestrators. Any of them can answer; the one that answered last is asked first. */
import { status } from "@grpc/grpc-js";
import { sleep } from "../../shared/abort.ts";
import { Backoff } from "../../shared/backoff.ts";
import type { Logger } from "../../shared/logging.ts";
import { formatRpcAddress, type RpcAddress } from "../../shared/rpc/address.ts";
import { clientOptions } from "../../shared/rpc/call.ts";
import { OrchestratorServiceClient } from "../../shared/rpc/generated/blacktree/v1/orchestrator.ts";
import { isTransportFault, RpcError } from "../../shared/rpc/status.ts";
import { channelSecurity, type TlsFiles } from "../../shared/rpc/tls.ts";

/** All calls to an orchestrator are short. */
export const ORCHESTRATOR_DEADLINE_MS = 3000;

/** Short compared with the lease time, within which a worker has to report its runs before they count as lost. */
const ASK_AGAIN_DELAY = { initialMs: 200, maxMs: 2000 };

export class Orchestrators {
  readonly #addresses: string[];
  readonly #tls: TlsFiles | undefined;
  readonly #logger: Logger;
  /** One client per address, created on first use and again after a fault: a channel can stay in CONNECTING for ever. */
  readonly #clients = new Map<string, OrchestratorServiceClient>();

  constructor(addresses: readonly RpcAddress[], tls: TlsFiles | undefined, logger: Logger) {
    this.#addresses = addresses.map(formatRpcAddress);
    this.#tls = tls;
    this.#logger = logger;
  }

  /**
   * Asks one orchestrator after the other until one answers. A refusal is an answer.
   * @throws RpcError: the refusal, or UNAVAILABLE when none is reachable
   */
  async ask<Answer>(question: (client: OrchestratorServiceClient) => Promise<Answer>): Promise<Answer> {
    const unreached: string[] = [];
    for (const address of [...this.#addresses]) {
      const client = this.#client(address);
      try {
        const answer = await question(client);
        this.#prefer(address);
        return answer;
      } catch (error) {
        if (!isTransportFault(error)) throw error;
        unreached.push(`${address} (${error.message})`);
        this.#forget(address, client);
      }
    }
    throw new RpcError(status.UNAVAILABLE, `no orchestrator reachable: ${unreached.join(", ")}`);
  }

  /**
   * As `ask`, but repeats with a growing delay while no orchestrator is reachable or able to answer.
   * @throws the refusal; the signal's reason; the error that `onUnanswered` returns after a round without an answer
   */
  async askUntilAnswered<Answer>(
    question: (client: OrchestratorServiceClient) => Promise<Answer>,
    signal: AbortSignal,
    onUnanswered: (fault: RpcError) => Error | undefined = () => undefined,
  ): Promise<Answer> {
    const delay = new Backoff(ASK_AGAIN_DELAY);
    for (;;) {
      try {
        return await this.ask(question);
      } catch (error) {
        if (!isTransportFault(error)) throw error;
        const final = onUnanswered(error);
        if (final) throw final;
        const delayMs = delay.nextMs();
        this.#logger.warn(
          { reason: error.message, retry_in_ms: delayMs },
          "no orchestrator answers, retrying",
        );
        await sleep(delayMs, signal);
      }
    }
  }

  close(): void {
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }

  #client(address: string): OrchestratorServiceClient {
    const known = this.#clients.get(address);
    if (known) return known;
    const { credentials, options } = channelSecurity(address, this.#tls);
    const client = new OrchestratorServiceClient(address, credentials, {
      ...clientOptions(address),
      ...options,
    });
    this.#clients.set(address, client);
    return client;
  }

  /** Another call may have failed on the client before, and there may be a new one by now. */
  #forget(address: string, failed: OrchestratorServiceClient): void {
    if (this.#clients.get(address) !== failed) return;
    failed.close();
    this.#clients.delete(address);
  }

  #prefer(address: string): void {
    this.#addresses.sort((one, other) => Number(other === address) - Number(one === address));
  }
}
