/** The process that runs the servers of pool.ts: `pool-host.ts <identity of the run> <socket to listen on>`. */
import { rm } from "node:fs/promises";
import { dirname } from "node:path";
import { isRunning } from "../machine/process-identity.ts";
import { closeProcessRecords } from "../machine/process-records.ts";
import { type OwnDockerEngine, startDockerEngine } from "./docker-engines.ts";
import { resetDockerEngine } from "./docker-reset.ts";
import { type EngineRequest, type LentEngine, requestIdHeader } from "./pool.ts";
import { type RabbitMq, type RabbitMqVersion, startRabbitMq } from "./rabbitmq.ts";

const [owner = "", socket = ""] = process.argv.slice(2);
const WATCH_INTERVAL_MS = 500;
const ASK_AGAIN_MS = 2000;

interface Loan {
  readonly id: string;
  readonly borrower: string;
}

interface Engine {
  readonly kind: string;
  readonly running: OwnDockerEngine;
  use: Loan | "resetting" | "idle";
}

const engines = new Set<Engine>();
const brokers = new Map<RabbitMqVersion, Promise<RabbitMq>>();

async function lendEngine({ engine, storage, borrower }: EngineRequest): Promise<LentEngine> {
  const kind = `${engine} ${storage}`;
  const loan = { id: crypto.randomUUID(), borrower };
  const idle = [...engines].find((each) => each.kind === kind && each.use === "idle");
  if (idle !== undefined) {
    idle.use = loan;
    return { loan: loan.id, access: idle.running.access };
  }
  const running = await startDockerEngine({ engine, storage });
  engines.add({ kind, running, use: loan });
  return { loan: loan.id, access: running.access };
}

const loanOf = ({ use }: Engine): Loan | undefined => (typeof use === "string" ? undefined : use);

function brokerOf(version: RabbitMqVersion): Promise<RabbitMq> {
  const broker = brokers.get(version) ?? startRabbitMq({ version });
  brokers.set(version, broker);
  return broker;
}

/** A loan may be returned twice: the engine may belong to the next borrower by then. */
async function takeBack(loan: string): Promise<void> {
  const engine = [...engines].find((each) => loanOf(each)?.id === loan);
  if (engine === undefined) return;
  engine.use = "resetting";
  try {
    await resetDockerEngine(engine.running);
    engine.use = "idle";
  } catch (error) {
    // It is not lent again.
    process.stdout.write(`failed to reset a Docker engine, stopping it: ${error}\n`);
    engines.delete(engine);
    await engine.running.stop();
  }
}

async function answer(request: Request): Promise<Response> {
  const { pathname } = new URL(request.url);
  const [, kind, id = ""] = pathname.split("/");
  if (request.method === "POST" && kind === "rabbitmq")
    return Response.json((await brokerOf(id as RabbitMqVersion)).access);
  if (request.method === "POST" && kind === "engines")
    return Response.json(await lendEngine((await request.json()) as EngineRequest));
  if (request.method === "DELETE" && kind === "engines") await takeBack(id);
  return Response.json({});
}

/** By the caller's id of the request. */
const answers = new Map<string, Promise<Response>>();

/** Bun closes a connection that is silent for 10 s, and a start can take longer: the caller repeats the request. */
async function answerSoon(request: Request): Promise<Response> {
  const id = request.headers.get(requestIdHeader) ?? "";
  const pending =
    answers.get(id) ?? answer(request).catch((error) => new Response(String(error), { status: 500 }));
  answers.set(id, pending);
  const isReady = await Promise.race([pending.then(() => true), Bun.sleep(ASK_AGAIN_MS).then(() => false)]);
  if (!isReady) return new Response(null, { status: 202 });
  answers.delete(id);
  return pending;
}

Bun.serve({ unix: socket, fetch: answerSoon });

async function stop(): Promise<never> {
  await Promise.allSettled([
    ...[...brokers.values()].map(async (broker) => (await broker).stop()),
    ...[...engines].map(({ running }) => running.stop()),
  ]);
  await closeProcessRecords();
  await rm(dirname(socket), { recursive: true, force: true });
  process.exit(0);
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, stop);
while (isRunning(owner)) {
  await Bun.sleep(WATCH_INTERVAL_MS);
  for (const loan of [...engines].map(loanOf))
    if (loan !== undefined && !isRunning(loan.borrower)) await takeBack(loan.id);
}
await stop();
