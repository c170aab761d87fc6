/**
 * Checks at the start of a session, and then every minute, whether RabbitMQ may lose messages of Blacktree's queues
 * without an error. Each finding is logged when it appears, changes or ends; problems are reported by /readyz.
 */
import { sleep } from "../../../shared/abort.ts";
import type { Logger } from "../../../shared/logging.ts";
import type { Session } from "./channel.ts";
import { type CheckedQueue, type Hazard, hazardsOf, isStream, unreadablePolicies } from "./hazards.ts";
import type { Policies, Policy } from "./policies.ts";
import { type ReadDeclaration, readDeclaration } from "./queue-arguments.ts";
import { fixedQueues, type Names, type OwnQueue, readyQueuesOf } from "./topology.ts";

const INTERVAL_MS = 60_000;
const MAX_NAMED_QUEUES = 3;

export interface QueueChecksOptions {
  readonly names: Names;
  /** The regions that have ready queues. */
  readonly regions: () => readonly string[];
  /** Undefined: policies are not checked. */
  readonly policies: Policies | undefined;
  readonly logger: Logger;
  /** Default: one minute. */
  readonly intervalMs?: number;
  /** The job queue was a stream, and has been replaced. */
  readonly onJobQueueReplaced: () => void;
}

interface Finding {
  readonly severity: Hazard["severity"];
  readonly text: string;
}

export class QueueChecks {
  /** By queue. */
  readonly #read = new Map<string, ReadDeclaration>();
  readonly #readInSession = new Set<string>();
  #policies: readonly Policy[] = [];
  /** By what is wrong, whichever queues it concerns. */
  #findings: ReadonlyMap<string, Finding> = new Map();

  constructor(private readonly options: QueueChecksOptions) {}

  get problems(): readonly string[] {
    return [...this.#findings.values()]
      .filter(({ severity }) => severity === "problem")
      .map(({ text }) => text);
  }

  /**
   * Checks the queues with fixed names; `keepChecking` checks the others, and the policies.
   * @throws Error when an internal queue is a stream: RabbitMQ would close the connection that takes a message from it
   */
  async attach(session: Session): Promise<void> {
    this.#readInSession.clear();
    const queues = fixedQueues(this.options.names);
    await Promise.all(queues.map((queue) => this.#readQueue(session, queue)));
    this.#report();
    const stream = queues.find(
      ({ name, role }) => (role === "jobs" || role === "retries") && isStream(this.#declarationOf(name)),
    );
    if (stream) throw new Error(`the internal queue ${stream.name} is a stream: delete it`);
  }

  /** Whether messages that arrive while no orchestrator runs would not be delivered. */
  async isJobQueueStream(session: Session): Promise<boolean> {
    const [queue] = fixedQueues(this.options.names).filter(({ role }) => role === "submissions");
    if (queue) await this.#readQueue(session, queue);
    this.#report();
    return this.#hasJobStream;
  }

  get #hasJobStream(): boolean {
    return isStream(this.#declarationOf(this.options.names.jobQueue));
  }

  /** Ends with the session. */
  async keepChecking(session: Session): Promise<void> {
    for (let isFirst = true; ; isFirst = false) {
      try {
        await this.#checkAll(session, isFirst);
      } catch (error) {
        if (!session.lost.aborted) this.options.logger.warn({ err: error }, "failed to check the queues");
      }
      try {
        await sleep(this.options.intervalMs ?? INTERVAL_MS, session.lost);
      } catch {
        return;
      }
    }
  }

  async #checkAll(session: Session, isFirst: boolean): Promise<void> {
    const hadJobStream = this.#hasJobStream;
    const isDue = (queue: OwnQueue) =>
      !this.#readInSession.has(queue.name) || (!isFirst && this.#mayHaveChanged(queue));
    for (const queue of this.#queues.filter(isDue)) await this.#readQueue(session, queue);
    this.#policies = (await this.options.policies?.read()) ?? this.#policies;
    if (session.lost.aborted) return;
    this.#report();
    if (hadJobStream && !this.#hasJobStream) this.options.onJobQueueReplaced();
  }

  get #queues(): readonly OwnQueue[] {
    const { names, regions } = this.options;
    return [...fixedQueues(names), ...regions().flatMap((region) => readyQueuesOf(names, region))];
  }

  /**
   * A declaration changes only with another queue of the name. Each read of one that differs makes RabbitMQ log an
   * error, so those without a problem are not read again in this session.
   */
  #mayHaveChanged(queue: OwnQueue): boolean {
    const read = this.#read.get(queue.name);
    if (read?.kind !== "read") return read?.kind === "missing";
    const hazards = hazardsOf({ ...queue, declaration: read.declaration }, []);
    return read.isAsExpected || hazards.some(({ severity }) => severity === "problem");
  }

  async #readQueue(session: Session, { name, arguments: expected }: OwnQueue): Promise<void> {
    const declaration = { durable: true, autoDelete: false, arguments: expected };
    this.#read.set(name, await readDeclaration(session, name, declaration));
    this.#readInSession.add(name);
  }

  #declarationOf(name: string): CheckedQueue["declaration"] {
    const read = this.#read.get(name);
    return read?.kind === "read" ? read.declaration : undefined;
  }

  #report(): void {
    const findings = this.#find();
    for (const [what, { severity, text }] of findings) {
      if (this.#findings.get(what)?.text === text) continue;
      if (severity === "problem") this.options.logger.error(text);
      else this.options.logger.warn(text);
    }
    for (const [what, { text }] of this.#findings) {
      if (!findings.has(what)) this.options.logger.info(`no longer found: ${text}`);
    }
    this.#findings = findings;
  }

  /** One for each hazard, with all queues that it concerns. */
  #find(): ReadonlyMap<string, Finding> {
    const found = new Map<string, { readonly hazard: Hazard; readonly queues: string[] }>();
    const add = (hazard: Hazard, queue: string) => {
      const what = JSON.stringify(hazard);
      const entry = found.get(what) ?? { hazard, queues: [] };
      entry.queues.push(queue);
      found.set(what, entry);
    };
    for (const queue of this.#queues) {
      const checked = { ...queue, declaration: this.#declarationOf(queue.name) };
      for (const hazard of hazardsOf(checked, this.#policies)) add(hazard, queue.name);
      for (const hazard of unreadablePolicies(this.#policies)) add(hazard, queue.name);
    }
    const entries = [...found].map(
      ([what, { hazard, queues }]) =>
        [what, { severity: hazard.severity, text: textOf(hazard, queues) }] as const,
    );
    return new Map(entries);
  }
}

function textOf({ cause, effect, remedy }: Hazard, queues: readonly string[]): string {
  const more = queues.length - MAX_NAMED_QUEUES;
  const named = queues.slice(0, MAX_NAMED_QUEUES).join(", ");
  const listed = `${queues.length > 1 ? "queues" : "queue"} ${named}${more > 0 ? ` and ${more} more` : ""}`;
  return `${listed}: ${cause}: ${effect}; ${remedy}`;
}
