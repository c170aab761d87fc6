/** `blacktree drain ID` and `blacktree drain --region NAME`. */
import { EXIT, type ExitStatus } from "../shared/settings/command-line.ts";
import type { ApiClient } from "./api/client.ts";
import { ApiError } from "./api/error.ts";
import { poll } from "./api/patience.ts";
import { ORDERED, REGIONS } from "./api/shapes.ts";
import {
  describeOrder,
  giveOrder,
  type OrderAnswer,
  type OrderTarget,
  orderTarget,
  pathOf,
} from "./operator-order.ts";
import { printJson, printText } from "./stdout.ts";
import { type ApiOptions, apiClient, apiCommand, type MakeCommand } from "./usage.ts";

interface DrainOptions extends ApiOptions {
  readonly region?: string;
  readonly reason?: string;
  readonly wait?: true;
}

const POLL_INTERVAL_MS = 500;

export const drainCommand: MakeCommand = (environment, finish) =>
  apiCommand("drain", environment)
    .description("take a worker or a region out of service: running jobs end, and no others start there")
    .argument("[id]", "the worker's id")
    .option("--region <name>", "drain all workers of this region, also those that register later")
    .option("--reason <text>", "shown wherever the drain has an effect")
    .option("--wait", "wait until no job is left there")
    .addHelpText(
      "after",
      `
Examples:
  blacktree drain builder-7 --reason 'new disk' --wait    # then stop its service
  blacktree drain --region us-east-1`,
    )
    .action(async (id: string | undefined, options: DrainOptions) =>
      finish(await drain(apiClient(options, environment), orderTarget(id, options.region), options)),
    );

async function drain(api: ApiClient, target: OrderTarget, options: DrainOptions): Promise<ExitStatus> {
  const answer = await giveOrder(api, target, "drain", options.reason);
  if (!options.json) printText(describeOrder(target, answer));
  if (options.wait) await untilNoJob(api, target);
  if (options.json) printJson(options.wait ? { ...answer, jobs: [] } : answer);
  else if (options.wait && answer.jobs.length > 0) printText(`no job runs on ${target.name} any more`);
  return EXIT.done;
}

/** @throws ApiError, also when it is resumed meanwhile: then it may never be without a job. */
async function untilNoJob(api: ApiClient, target: OrderTarget): Promise<void> {
  const end = await poll(async () => {
    const state = await stateOf(api, target);
    if (!state || state.jobs.length === 0) return "no job";
    return state.control?.kind === "drained" ? undefined : "resumed";
  }, POLL_INTERVAL_MS);
  if (end === "resumed")
    throw new ApiError(`${target.name} is not drained any more, so this command waits no longer`);
}

type State = Pick<OrderAnswer, "jobs" | "control">;

/** Undefined: it is not registered any more, so it has no job. */
async function stateOf(api: ApiClient, target: OrderTarget): Promise<State | undefined> {
  if (target.kind === "region") {
    const { items } = await api.get<{ items: (State & { region: string })[] }>("/api/v1/regions", REGIONS);
    return items.find(({ region }) => region === target.name);
  }
  try {
    return await api.get<State>(pathOf(target), ORDERED);
  } catch (error) {
    // A proxy whose orchestrator is away can answer so, too.
    if (error instanceof ApiError && error.status === 404 && error.problem.title !== undefined)
      return undefined;
    throw error;
  }
}
