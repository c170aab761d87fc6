/** The worker's settings. No other file reads its environment. */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { checkTransport, tlsFilesOf } from "../../shared/rpc/tls.ts";
import {
  gitSettings,
  loggingSettings,
  resultLogSettings,
  transportSettings,
} from "../../shared/settings/common.ts";
import * as parse from "../../shared/settings/parsers.ts";
import {
  type LoadedSettings,
  loadSettings,
  optional,
  required,
  type SettingProblem,
  type SettingSources,
  type SettingValues,
  withDefault,
} from "../../shared/settings/settings.ts";
import { workerLabels } from "../../shared/settings/worker-labels.ts";
import { checkBuilderOptions } from "../buildkit/builders/location.ts";
import { buildSettings } from "./build.ts";
import { checkBuildCgroup } from "./build-cgroup.ts";
import { checkRegistry, registrySettings } from "./registry.ts";

const ID_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$/;

export const WORKER_SETTINGS = {
  orchestratorAddresses: required(
    {
      name: "BLACKTREE_ORCHESTRATOR_ADDR",
      description: "the orchestrators' gRPC addresses, host:port, comma separated",
    },
    parse.commaSeparated(parse.hostPort),
  ),
  workerId: optional(
    {
      name: "BLACKTREE_WORKER_ID",
      description: "this worker's id",
      computedDefault: "host name and random bytes, new at each start",
    },
    parse.matching(ID_PATTERN, "1 to 200 of letters, digits, . _ : and -"),
  ),
  labels: optional(
    {
      name: "BLACKTREE_WORKER_LABELS",
      description: "labels that are shown with this worker: key=value, comma separated",
      computedDefault: "none",
    },
    workerLabels,
  ),
  region: required(
    {
      name: "BLACKTREE_WORKER_REGION",
      description: "the region this worker builds in; default: AWS_REGION",
    },
    parse.region,
  ),
  slots: withDefault(
    { name: "BLACKTREE_WORKER_SLOTS", description: "number of jobs that this worker runs at once" },
    parse.integer(1, 64),
    "1",
  ),
  listen: optional(
    {
      name: "BLACKTREE_WORKER_LISTEN",
      description: "address that this worker serves gRPC on",
      computedDefault: "0.0.0.0:6000 with TLS, 127.0.0.1:6000 without",
    },
    parse.hostPort,
  ),
  advertise: optional(
    {
      name: "BLACKTREE_WORKER_ADVERTISE",
      description: "address at which orchestrators reach this worker",
      computedDefault: "the first address that the listener is reachable at",
    },
    parse.hostPort,
  ),
  workDir: withDefault(
    { name: "BLACKTREE_WORK_DIR", description: "folder for the jobs' files" },
    parse.matching(/^\//, "an absolute path"),
    "/var/lib/blacktree",
  ),
  drainTimeoutMs: withDefault(
    {
      name: "BLACKTREE_DRAIN_TIMEOUT",
      description: "how long runs may continue on a worker that is stopping",
    },
    parse.duration(0, 86_400_000),
    "10m",
  ),
  ...buildSettings,
  ...registrySettings,
  ...gitSettings,
  ...resultLogSettings,
  ...transportSettings,
  ...loggingSettings,
};

export type WorkerSettings = SettingValues<typeof WORKER_SETTINGS>;

export function loadWorkerSettings(sources: SettingSources): LoadedSettings<typeof WORKER_SETTINGS> {
  const environment = {
    ...sources.environment,
    BLACKTREE_WORKER_REGION: sources.environment.BLACKTREE_WORKER_REGION || sources.environment.AWS_REGION,
  };
  const isGiven = (name: string) =>
    Boolean(sources.flags[name] || environment[name as keyof typeof environment]);
  return loadSettings(WORKER_SETTINGS, { flags: sources.flags, environment }, (values): SettingProblem[] => [
    ...checkBuilderOptions(values),
    ...checkBuildCgroup(values, sources.environment.DOCKER_HOST),
    ...checkTransport(
      (key) => isGiven(WORKER_SETTINGS[key].name),
      { name: "BLACKTREE_WORKER_LISTEN", host: values.listen?.host },
      values.isInsecure ?? false,
    ),
    ...checkRegistry(values),
  ]);
}

/** As in systemd/blacktree-worker@.service. */
export function unitEnvironment(instance: string): Record<string, string> {
  return {
    BLACKTREE_WORKER_REGION: instance,
    BLACKTREE_WORK_DIR: `${WORKER_SETTINGS.workDir.fallback}/worker-${instance}`,
  };
}

export function listenAddress(settings: WorkerSettings): parse.HostPort {
  return settings.listen ?? { host: tlsFilesOf(settings) ? "0.0.0.0" : "127.0.0.1", port: 6000 };
}

/** Two workers of one host, or one worker before and after a restart, never get the same id. */
export function generatedWorkerId(): string {
  return `${hostname()}-${randomBytes(4).toString("hex")}`;
}
