/** The real servers that a complete Blacktree needs, for the tests of one file. */
import { type Aws, startAws } from "./aws.ts";
import {
  type DockerEngine,
  type DockerEngineName,
  type DockerEngineOptions,
  type OwnDockerEngine,
  startDockerEngine,
} from "./docker-engines.ts";
import { type GitServer, startGitServer } from "./git-server.ts";
import { borrowDockerEngine, borrowRabbitMq } from "./pool.ts";
import { type RabbitMq, type RabbitMqOptions, type RabbitMqServer, startRabbitMq } from "./rabbitmq.ts";
import { type Redis, startRedis } from "./redis.ts";
import { type Registry, startRegistry } from "./registry.ts";
import { type RegistryProxy, startRegistryProxy } from "./registry-proxy.ts";

export interface Backends<
  Broker extends RabbitMqServer = RabbitMqServer,
  Engine extends DockerEngine = DockerEngine,
> {
  readonly rabbitmq: Broker;
  readonly redis: Redis;
  readonly aws: Aws;
  readonly registry: Registry;
  /** A proxy before the registry that answers as ECR does; ECR tokens name it as the endpoint. */
  readonly ecr: RegistryProxy;
  readonly git: GitServer;
  readonly docker: Engine;
  stop(): Promise<void>;
}

export interface BackendsOptions {
  readonly engine: DockerEngineName;
  /** A dedicated broker, for tests that break it or configure it differently; by default the run's broker is shared. */
  readonly ownRabbitMq?: RabbitMqOptions;
  /** A dedicated engine; by default one is borrowed. */
  readonly ownDocker?: Omit<DockerEngineOptions, "engine">;
}

/** The types of the servers that the options select. */
export type BackendsOf<Options extends BackendsOptions> = Backends<
  Options extends { ownRabbitMq: RabbitMqOptions } ? RabbitMq : RabbitMqServer,
  Options extends { ownDocker: object } ? OwnDockerEngine : DockerEngine
>;

export async function startBackends<Options extends BackendsOptions>(
  options: Options,
): Promise<BackendsOf<Options>> {
  const { engine, ownRabbitMq, ownDocker } = options;
  const [rabbitmq, redis, registry, git, docker] = await Promise.all([
    ownRabbitMq ? startRabbitMq(ownRabbitMq) : borrowRabbitMq(),
    startRedis(),
    startRegistry(),
    startGitServer(),
    ownDocker ? startDockerEngine({ engine, ...ownDocker }) : borrowDockerEngine(engine),
  ]);
  const aws = await startAws();
  const ecr = await startRegistryProxy(registry, { login: aws.login });
  aws.configure({ proxyEndpoint: ecr.url });
  const backends: Backends = {
    rabbitmq,
    redis,
    aws,
    registry,
    ecr,
    git,
    docker,
    async stop() {
      await Promise.all([rabbitmq.stop(), redis.stop(), git.stop(), docker.stop(), ecr.stop(), aws.stop()]);
      await registry.stop();
    },
  };
  return backends as BackendsOf<Options>;
}
