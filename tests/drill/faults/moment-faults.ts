/**
 * Faults in the moment between two steps: the step that a program has just sent is held for longer than a lease, or the
 * program is killed right before or after it.
 */
import type { CutTraffic, TcpProxy } from "../../support/servers/tcp-proxy.ts";
import type { OrchestratorPart, WorkerPart } from "../site/site.ts";
import {
  type FaultKind,
  type Harm,
  LONGER_THAN_LEASE,
  onOrchestrator,
  onWorker,
  SOON,
  STOPPABLE_ORCHESTRATORS,
  STOPPABLE_WORKERS,
} from "./fault.ts";
import { callOf, cutAtMoment, leaseConfirmation, publishTo, runJob, tagPut } from "./moments.ts";

interface Step<Part> {
  /** Completes "orchestrator killed …" and "worker frozen …". */
  readonly when: string;
  readonly matches: (chunk: Buffer) => boolean;
  /** Whether the step itself still reaches its server. */
  readonly isPassed: boolean;
  linksOf(part: Part): readonly TcpProxy[];
  readonly harms: readonly Harm[];
  readonly isolates?: true;
}

function cutOn<Part>({ matches, isPassed, linksOf }: Step<Part>, part: Part, traffic: CutTraffic) {
  const links = linksOf(part);
  return {
    awaitMoment: async (signal: AbortSignal) =>
      (await cutAtMoment(links, { matches, isPassed }, traffic, signal))?.at,
    open() {
      for (const link of links) link.heal();
    },
  };
}

/** Only one direction is held: a request that has passed waits for its answer. */
const heldTraffic = ({ isPassed }: Pick<Step<unknown>, "isPassed">): CutTraffic =>
  isPassed ? "answers" : "requests";

/** What the step waits for passes when the fault ends. */
function held<Part>(step: Step<Part>, part: Part) {
  const { awaitMoment, open } = cutOn(step, part, heldTraffic(step));
  return { awaitMoment, begin: () => undefined, heal: open };
}

function killed<Part extends OrchestratorPart | WorkerPart>(step: Step<Part>, part: Part) {
  const { awaitMoment, open } = cutOn(step, part, "both");
  return {
    awaitMoment,
    async begin() {
      await part.program.kill();
      open();
    },
    heal: () => part.program.start(),
  };
}

function orchestratorHeld(step: Step<OrchestratorPart>): FaultKind {
  const options = { lastsMs: LONGER_THAN_LEASE, harms: step.harms, recoversFrom: "heal" } as const;
  return onOrchestrator(`orchestrator held ${step.when}`, options, (part) => held(step, part));
}

function orchestratorKilled(step: Step<OrchestratorPart>): FaultKind {
  const options = {
    targets: STOPPABLE_ORCHESTRATORS,
    lastsMs: SOON,
    harms: ["pings", "messages"],
    recoversFrom: "begin",
  } as const;
  return onOrchestrator(`orchestrator killed ${step.when}`, options, (part) => killed(step, part));
}

function workerHeld(step: Step<WorkerPart>): FaultKind {
  const { harms, isolates } = step;
  const options = { lastsMs: LONGER_THAN_LEASE, harms, isolates, recoversFrom: "heal" } as const;
  return onWorker(`worker held ${step.when}`, options, (part) => held(step, part));
}

function workerKilled(step: Step<WorkerPart>): FaultKind {
  const options = {
    targets: STOPPABLE_WORKERS,
    lastsMs: SOON,
    harms: ["run"],
    recoversFrom: "begin",
  } as const;
  return onWorker(`worker killed ${step.when}`, options, (part) => killed(step, part));
}

/** The held step does not follow the worker into its freeze: it passes before, or is lost. */
function workerFrozen(step: Step<WorkerPart>): FaultKind {
  const options = {
    lastsMs: LONGER_THAN_LEASE,
    harms: ["run"],
    recoversFrom: "heal",
    isolates: true,
  } as const;
  return onWorker(`worker frozen ${step.when}`, options, (part) => {
    const { awaitMoment, open } = cutOn(step, part, "answers");
    return {
      awaitMoment,
      begin() {
        part.program.current.process.pause();
        open();
      },
      heal: () => part.program.current.process.resume(),
    };
  });
}

const toRabbitMq = ({ toRabbitMq: link }: OrchestratorPart) => [link];
const toRedis = ({ toRedis: link }: OrchestratorPart) => [link];
const toRegistry = ({ toRegistry: link }: WorkerPart) => [link];
const messages = { linksOf: toRabbitMq, harms: ["messages"] } as const;
const leases = { linksOf: toRedis, harms: ["pings", "messages"] } as const;

const beforeResult = {
  when: "before a result",
  matches: publishTo("jobs.results"),
  isPassed: false,
  ...messages,
};
const afterResult = { ...beforeResult, when: "between a result and its ack", isPassed: true };
const beforeOffer = {
  when: "between a job's record and its ready queue",
  matches: publishTo("jobs.ready."),
  isPassed: false,
  ...messages,
};
const afterOffer = { ...beforeOffer, when: "between a ready queue and the ack", isPassed: true };
const beforeRelease = {
  when: "between a result and the slot",
  matches: callOf("release"),
  isPassed: false,
  ...leases,
};
const afterClaim = {
  when: "between a claim and its call",
  matches: callOf("claim"),
  isPassed: true,
  ...leases,
};

const beforeTag = {
  when: "before the tag",
  matches: tagPut,
  isPassed: false,
  linksOf: toRegistry,
  harms: ["registry"],
} as const;
const afterTag = { ...beforeTag, when: "after the tag", isPassed: true };
const confirmed = {
  when: "at the confirmation of its lease",
  matches: leaseConfirmation,
  isPassed: true,
  linksOf: ({ toOrchestrators }: WorkerPart) => toOrchestrators,
  harms: [],
};
const called = {
  when: "before RunJob",
  matches: runJob,
  isPassed: false,
  linksOf: ({ fromOrchestrators }: WorkerPart) => [fromOrchestrators],
  harms: ["run"],
  isolates: true,
} as const;

export const MOMENT_FAULTS: readonly FaultKind[] = [
  ...[beforeResult, afterResult, beforeOffer, afterOffer, beforeRelease, afterClaim].map(orchestratorHeld),
  ...[beforeResult, afterResult, beforeOffer, afterOffer, beforeRelease, afterClaim].map(orchestratorKilled),
  ...[beforeTag, afterTag, called].map(workerHeld),
  ...[beforeTag, afterTag].map(workerKilled),
  workerFrozen(confirmed),
];
