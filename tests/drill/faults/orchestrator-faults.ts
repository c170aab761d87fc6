/** An orchestrator is killed, stopped or frozen, or loses one of the parts that it is connected to. */
import type { CutTraffic, TcpProxy } from "../../support/servers/tcp-proxy.ts";
import type { OrchestratorPart } from "../site/site.ts";
import {
  AROUND_LEASE,
  type FaultKind,
  type Harm,
  LONGER_THAN_LEASE,
  ORCHESTRATORS,
  onOrchestrator,
  SHORTER_THAN_LEASE,
  SOON,
  STOPPABLE_ORCHESTRATORS,
  untilAllReady,
} from "./fault.ts";

const STOP_MS = 60_000;

const frozen = ({ program }: OrchestratorPart) => ({
  begin: () => program.current.process.pause(),
  heal: () => program.current.process.resume(),
});

/** Loses one connection, in both directions or only in one: data arrives, and no answer does. */
function cutOff(
  part: string,
  linkOf: (orchestrator: OrchestratorPart) => TcpProxy,
  { lastsMs, harms }: { lastsMs: FaultKind["lastsMs"]; harms: readonly Harm[] },
): FaultKind[] {
  const cut = (name: string, traffic: CutTraffic) =>
    onOrchestrator(name, { lastsMs, harms, recoversFrom: "heal" }, (orchestrator) => {
      const link = linkOf(orchestrator);
      return { begin: () => link.cut(traffic), heal: link.heal };
    });
  return [
    cut(`orchestrator cut off from ${part}`, "both"),
    cut(`orchestrator's requests to ${part} lost`, "requests"),
    cut(`answers of ${part} to orchestrator lost`, "answers"),
  ];
}

export const ORCHESTRATOR_FAULTS: readonly FaultKind[] = [
  onOrchestrator(
    "orchestrator killed",
    {
      targets: STOPPABLE_ORCHESTRATORS,
      lastsMs: SOON,
      harms: ["pings", "messages"],
      recoversFrom: "begin",
    },
    ({ program }) => ({ begin: () => program.kill(), heal: () => program.start() }),
  ),
  onOrchestrator(
    "orchestrator stopped",
    {
      targets: STOPPABLE_ORCHESTRATORS,
      lastsMs: SOON,
      harms: ["pings", "messages"],
      recoversFrom: "begin",
    },
    ({ program }) => ({
      begin() {
        program.current.process.signal("SIGTERM");
        return program.exitsCleanly(STOP_MS);
      },
      heal: () => program.start(),
    }),
  ),
  onOrchestrator(
    "orchestrator frozen, short",
    { lastsMs: SHORTER_THAN_LEASE, harms: ["messages"], recoversFrom: "heal" },
    frozen,
  ),
  onOrchestrator(
    "orchestrator frozen, long",
    { lastsMs: LONGER_THAN_LEASE, harms: ["pings", "messages"], recoversFrom: "heal" },
    frozen,
  ),
  {
    name: "all orchestrators frozen",
    targets: [ORCHESTRATORS.flat()],
    lastsMs: LONGER_THAN_LEASE,
    harms: ["leases", "messages"],
    recoversFrom: "heal",
    make: (site) => ({
      begin() {
        for (const { program } of site.orchestrators) program.current.process.pause();
      },
      heal() {
        for (const { program } of site.orchestrators) program.current.process.resume();
      },
      settled: () => untilAllReady(site),
    }),
  },
  onOrchestrator(
    "orchestrator's RabbitMQ connections reset",
    { lastsMs: [0, 5000], harms: ["messages"], recoversFrom: "heal" },
    ({ toRabbitMq }) => ({ begin: toRabbitMq.reset, heal: toRabbitMq.heal }),
  ),
  ...cutOff("RabbitMQ", ({ toRabbitMq }) => toRabbitMq, { lastsMs: [2000, 12_000], harms: ["messages"] }),
  ...cutOff("Redis", ({ toRedis }) => toRedis, { lastsMs: AROUND_LEASE, harms: ["pings", "messages"] }),
  ...cutOff("the workers", ({ toWorkers }) => toWorkers, { lastsMs: AROUND_LEASE, harms: ["pings"] }),
];
