import { connect } from "node:net";
import { join } from "node:path";
import { freePort } from "../machine/free-port.ts";
import {
  type FinishedProcess,
  type RunOptions,
  run,
  startProcess,
  type TestProcess,
} from "../machine/processes.ts";
import { makeTempDir } from "../machine/temp-dir.ts";
import { debian13Launcher } from "./debian-13.ts";

/** Debian's package as it is installed, or the one of Debian 13. */
const VERSIONS = ["installed", "4.0"] as const;
export type RabbitMqVersion = (typeof VERSIONS)[number];

export interface RabbitMqOptions {
  readonly version?: RabbitMqVersion;
  /** More lines for rabbitmq.conf, such as "consumer_timeout = 2000". */
  config?: readonly string[];
}

/** All that a program needs to use a broker that another program has started. */
export interface RabbitMqAccess {
  readonly port: number;
  readonly managementPort: number;
  readonly password: string;
  /** The path of rabbitmqctl. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly launcher: readonly string[];
}

export interface QueueTotals {
  readonly name: string;
  readonly ready: number;
  /** Delivered to a consumer that has not acknowledged them. */
  readonly unacked: number;
}

export type Permissions = readonly [configure: string, write: string, read: string];

/** A broker that several users may share, each in a separate virtual host. */
export interface RabbitMqServer {
  /** For the virtual host that the broker starts with. */
  readonly url: string;
  readonly port: number;
  readonly vhost: string;
  /** Of the management API, with the tests' user. */
  readonly managementUrl: string;
  urlOf(vhost: string): string;
  /** Grants all rights on it to the tests' user. */
  addVhost(name: string): Promise<void>;
  deleteVhost(name: string): Promise<void>;
  /** Sets a policy for the queues of the virtual host whose names match the pattern. */
  setPolicy(vhost: string, name: string, pattern: string, definition: object): Promise<void>;
  clearPolicy(vhost: string, name: string): Promise<void>;
  /** With the password `pw`, and a permission in the virtual host that allows nothing. */
  addUser(vhost: string, name: string, tags: string): Promise<void>;
  deleteUser(name: string): Promise<void>;
  /** Of a user: patterns of the names that the user may configure, write and read. */
  permit(vhost: string, name: string, patterns: Permissions): Promise<void>;
  /** As of now. */
  queueTotals(vhost: string): Promise<QueueTotals[]>;
  rabbitmqctl(args: readonly string[], options?: RunOptions): Promise<FinishedProcess>;
  /** The value of Erlang expressions on the broker's node, with a fraction of the work of "rabbitmqctl eval". */
  evaluate(expressions: string): Promise<string>;
  /**
   * For channels that are opened from now on, which check it in the interval. rabbitmq.conf cannot set less than a
   * minute. Without arguments, the defaults.
   */
  setConsumerTimeout(timeoutMs?: number, checkIntervalMs?: number): Promise<void>;
  /** Writes the broker's list of quorum queues, as it does a minute after a declaration: a kill loses what it has not. */
  writeQueueList(): Promise<void>;
  /** Stops a dedicated broker; on a shared one, deletes the caller's virtual host. */
  stop(): Promise<void>;
}

/** A dedicated broker: it shares its node, ports, cookie, port mapper and folders with no other broker. */
export interface RabbitMq extends RabbitMqServer {
  readonly access: RabbitMqAccess;
  /** Kills it without a cleanup. Durable queues and persistent messages exist again after start(). */
  kill(): Promise<void>;
  start(): Promise<void>;
  restart(): Promise<void>;
  /** Freezes it: connections stay open, and no request is answered. */
  pause(): void;
  resume(): void;
}

// Not those in /usr/sbin: they change to the user rabbitmq, who may not read the folders of a test.
const programs = "/usr/lib/rabbitmq/bin";
const startTimeoutMs = 120_000;
/** Its value is the version for all tests that do not name one. */
export const rabbitMqVariable = "BLACKTREE_TEST_RABBITMQ";
export const defaultRabbitMq = versionOf(process.env[rabbitMqVariable] ?? "installed");
const user = "blacktree";
const firstVhost = "tests";
/** The counts that the management API and rabbitmqctl report for a quorum queue are up to 5 s old: the queue is asked. */
const totalsIn = (vhost: string) => `
  Count = fun(Queue, Query) ->
    {ok, Messages, _} = ra:consistent_query(amqqueue:get_pid(Queue), Query),
    Messages
  end,
  Totals = fun(Queue) ->
    case amqqueue:get_type(Queue) of
      rabbit_quorum_queue ->
        Unacked = Count(Queue, fun rabbit_fifo:query_messages_checked_out/1),
        [Count(Queue, fun rabbit_fifo:query_messages_total/1) - Unacked, Unacked];
      _ ->
        [Number || {_, Number} <- rabbit_amqqueue:info(Queue, [messages_ready, messages_unacknowledged])]
    end
  end,
  Queues = rabbit_amqqueue:list(<<"${vhost}">>),
  Named = [[element(4, amqqueue:get_name(Queue)) | Totals(Queue)] || Queue <- Queues],
  base64:encode_to_string(rabbit_json:encode(Named))`;

function versionOf(value: string): RabbitMqVersion {
  const version = VERSIONS.find((each) => each === value);
  if (!version) throw new Error(`${rabbitMqVariable} is ${value}, expected one of ${VERSIONS.join(", ")}`);
  return version;
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

async function writeConfig(
  dir: string,
  { port, managementPort, password }: Omit<RabbitMqAccess, "env" | "launcher">,
  more: readonly string[],
): Promise<void> {
  const lines = [
    `listeners.tcp.default = 127.0.0.1:${port}`,
    "management.tcp.ip = 127.0.0.1",
    `management.tcp.port = ${managementPort}`,
    // Statistics use more processor time than all actions of the tests.
    "management_agent.disable_metrics_collector = true",
    // Set at the first start only, with the virtual host.
    `default_user = ${user}`,
    `default_pass = ${password}`,
    `default_vhost = ${firstVhost}`,
    "loopback_users = none",
    "log.file = false",
    "log.console = true",
    "log.console.level = info",
    // Other programs use the machine's disk and memory too; their alarms must not stop a test.
    "disk_free_limit.absolute = 50MB",
    "vm_memory_high_watermark.absolute = 1GB",
    ...more,
  ];
  await Bun.write(join(dir, "rabbitmq.conf"), `${lines.join("\n")}\n`);
  await Bun.write(join(dir, "enabled_plugins"), "[rabbitmq_management].\n");
}

export function connectRabbitMq(access: RabbitMqAccess): Omit<RabbitMqServer, "stop"> {
  const { port, managementPort, password, env, launcher } = access;
  const urlOf = (vhost: string) => `amqp://${user}:${password}@127.0.0.1:${port}/${vhost}`;

  async function manage(method: string, path: string, body?: object): Promise<Response> {
    const response = await fetch(`http://127.0.0.1:${managementPort}/api/${path}`, {
      method,
      headers: { Authorization: `Basic ${btoa(`${user}:${password}`)}`, "content-type": "application/json" },
      body: body && JSON.stringify(body),
    });
    if (response.ok) return response;
    throw new Error(`RabbitMQ answered ${response.status} to ${method} ${path}: ${await response.text()}`);
  }

  async function permit(vhost: string, name: string, [configure, write, read]: Permissions): Promise<void> {
    await manage("PUT", `permissions/${vhost}/${name}`, { configure, write, read });
  }

  async function evaluate(expressions: string): Promise<string> {
    const command = ["erl_call", "-sname", `${env.RABBITMQ_NODENAME}`, "-e"];
    const { stdout } = await run(command, { env, launcher, stdin: `${expressions}.\n` });
    const [, value] = /^\{ok, (.*)\}$/s.exec(stdout.trim()) ?? [];
    if (value === undefined) throw new Error(`RabbitMQ answered ${stdout} to ${expressions}`);
    return value;
  }

  return {
    url: urlOf(firstVhost),
    port,
    vhost: firstVhost,
    managementUrl: `http://${user}:${password}@127.0.0.1:${managementPort}`,
    urlOf,
    addVhost: async (name) => void (await manage("PUT", `vhosts/${name}`)),
    deleteVhost: async (name) => void (await manage("DELETE", `vhosts/${name}`)),
    async setPolicy(vhost, name, pattern, definition) {
      await manage("PUT", `policies/${vhost}/${name}`, { pattern, definition, "apply-to": "queues" });
    },
    clearPolicy: async (vhost, name) => void (await manage("DELETE", `policies/${vhost}/${name}`)),
    async addUser(vhost, name, tags) {
      await manage("PUT", `users/${name}`, { password: "pw", tags });
      await permit(vhost, name, ["^$", "^$", "^$"]);
    },
    deleteUser: async (name) => void (await manage("DELETE", `users/${name}`)),
    permit,
    async queueTotals(vhost) {
      const encoded = JSON.parse(await evaluate(totalsIn(vhost))) as string;
      const queues = JSON.parse(atob(encoded)) as [name: string, ready: number, unacked: number][];
      return queues.map(([name, ready, unacked]) => ({ name, ready, unacked }));
    },
    rabbitmqctl: (args, options = {}) =>
      run([join(programs, "rabbitmqctl"), "--node", `${env.RABBITMQ_NODENAME}`, ...args], {
        ...options,
        launcher,
        env: { ...env, RABBITMQ_ALLOW_INPUT: undefined, ...options.env },
      }),
    evaluate,
    async setConsumerTimeout(timeoutMs = 1_800_000, checkIntervalMs = 60_000) {
      await evaluate(`application:set_env(rabbit, consumer_timeout, ${timeoutMs})`);
      await evaluate(`application:set_env(rabbit, channel_tick_interval, ${checkIntervalMs})`);
    },
    writeQueueList: async () => void (await evaluate("[dets:sync(Table) || Table <- dets:all()]")),
  };
}

/** What all nodes of a cluster share. */
interface Home {
  readonly launcher: readonly string[];
  readonly password: string;
  /** The cookie's folder and the port mapper. A broker would start a mapper that outlives it, in a separate group. */
  readonly env: Readonly<Record<string, string>>;
  readonly remove: () => Promise<void>;
}

async function startHome(version: RabbitMqVersion): Promise<Home> {
  const launcher = version === "installed" ? [] : await debian13Launcher();
  const { path, remove } = await makeTempDir("rabbit");
  const mapperPort = await freePort();
  const env = { HOME: path, ERL_EPMD_PORT: String(mapperPort), ERL_EPMD_ADDRESS: "127.0.0.1" };
  const mapper = startProcess(["epmd", "-port", String(mapperPort)], { env, launcher });
  return {
    launcher,
    password: crypto.randomUUID(),
    env,
    async remove() {
      await mapper.stop(2_000);
      await remove();
    },
  };
}

interface NodePorts {
  readonly port: number;
  readonly managementPort: number;
  readonly distributionPort: number;
}

async function nodePorts(): Promise<NodePorts> {
  const [port, managementPort, distributionPort] = await Promise.all([freePort(), freePort(), freePort()]);
  return { port, managementPort, distributionPort };
}

// On an address that every machine resolves, whatever its host name.
const nodeName = ({ port }: Pick<NodePorts, "port">) => `tests-${port}@localhost`;

/** A node that does not run yet. `stop` leaves what it shares with other nodes. */
async function createNode(home: Home, ports: NodePorts, config: readonly string[]): Promise<RabbitMq> {
  const { launcher, password } = home;
  const { port, managementPort, distributionPort } = ports;
  const { path: dir, remove } = await makeTempDir("rabbit");
  await writeConfig(dir, { port, managementPort, password }, config);
  const env = {
    ...home.env,
    RABBITMQ_NODENAME: nodeName(ports),
    RABBITMQ_NODE_IP_ADDRESS: "127.0.0.1",
    RABBITMQ_NODE_PORT: String(port),
    RABBITMQ_DIST_PORT: String(distributionPort),
    RABBITMQ_CTL_DIST_PORT_MIN: "33000",
    RABBITMQ_CTL_DIST_PORT_MAX: "60000",
    RABBITMQ_CONFIG_FILE: join(dir, "rabbitmq.conf"),
    RABBITMQ_CONF_ENV_FILE: "/dev/null",
    RABBITMQ_MNESIA_BASE: join(dir, "mnesia"),
    RABBITMQ_LOG_BASE: join(dir, "log"),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(dir, "enabled_plugins"),
    RABBITMQ_PID_FILE: join(dir, "pid"),
    // The script then becomes the Erlang machine, so that a signal reaches the broker itself.
    RABBITMQ_ALLOW_INPUT: "1",
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: "-noinput -kernel inet_dist_use_interface {127,0,0,1}",
    NOTIFY_SOCKET: undefined,
  };
  let broker: TestProcess | undefined;

  async function start(): Promise<void> {
    broker = startProcess([join(programs, "rabbitmq-server")], { env, launcher });
    await broker.waitForLine("Server startup complete", {
      timeoutMs: startTimeoutMs,
      what: "RabbitMQ to be ready",
    });
    if (!(await accepts(port))) throw new Error(`RabbitMQ does not listen on port ${port}`);
  }

  const access: RabbitMqAccess = { port, managementPort, password, env, launcher };
  return {
    ...connectRabbitMq(access),
    access,
    kill: async () => broker?.kill(),
    start,
    async restart() {
      await broker?.stop(15_000);
      await start();
    },
    pause: () => broker?.pause(),
    resume: () => broker?.resume(),
    async stop() {
      await broker?.stop(15_000);
      await remove();
    },
  };
}

export async function startRabbitMq({
  config = [],
  version = defaultRabbitMq,
}: RabbitMqOptions = {}): Promise<RabbitMq> {
  const home = await startHome(version);
  const node = await createNode(home, await nodePorts(), config);
  const stop = async () => {
    await node.stop();
    await home.remove();
  };
  try {
    await node.start();
  } catch (error) {
    await stop();
    throw error;
  }
  return { ...node, stop };
}

export interface RabbitMqCluster {
  readonly nodes: readonly [RabbitMq, RabbitMq, RabbitMq];
  stop(): Promise<void>;
}

/** Three nodes. A user and a virtual host of one of them are those of all. */
export async function startRabbitMqCluster({
  config = [],
  version = defaultRabbitMq,
}: RabbitMqOptions = {}): Promise<RabbitMqCluster> {
  const home = await startHome(version);
  const ports = await Promise.all([nodePorts(), nodePorts(), nodePorts()]);
  const peers = ports.map(
    (each, index) => `cluster_formation.classic_config.nodes.${index + 1} = ${nodeName(each)}`,
  );
  const lines = ["cluster_formation.peer_discovery_backend = classic_config", ...peers, ...config];
  const [one, two, three] = ports;
  const nodes = await Promise.all([
    createNode(home, one, lines),
    createNode(home, two, lines),
    createNode(home, three, lines),
  ]);
  const stop = async () => {
    await Promise.all(nodes.map((node) => node.stop()));
    await home.remove();
  };
  try {
    await Promise.all(nodes.map((node) => node.start()));
  } catch (error) {
    await stop();
    throw error;
  }
  return { nodes, stop };
}
