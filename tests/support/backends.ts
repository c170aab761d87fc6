/** The real servers that a whole Blacktree needs, started together and shared by the tests of one file. */
import { type Aws, startAws } from "./aws.ts";
import { type DockerEngine, type DockerEngineOptions, startDockerEngine } from "./docker-engines.ts";
import { type GitServer, startGitServer } from "./git-server.ts";
import { type RabbitMq, type RabbitMqOptions, startRabbitMq } from "./rabbitmq.ts";
import { type Redis, startRedis } from "./redis.ts";
import { type Registry, startRegistry } from "./registry.ts";
import { type RegistryProxy, startRegistryProxy } from "./registry-proxy.ts";

export interface Backends {
  readonly rabbitmq: RabbitMq;
  readonly redis: Redis;
  readonly aws: Aws;
  readonly registry: Registry;
  /** Stands before the registry and answers as ECR does; it is where ECR sends everybody. */
  readonly ecr: RegistryProxy;
  readonly git: GitServer;
  readonly docker: DockerEngine;
  stop(): Promise<void>;
}

export interface BackendsOptions extends Pick<DockerEngineOptions, "engine" | "daemonEnv"> {
  readonly rabbitmq?: RabbitMqOptions;
}

export async function startBackends(options: BackendsOptions): Promise<Backends> {
  const [rabbitmq, redis, registry, git, docker] = await Promise.all([
    startRabbitMq(options.rabbitmq),
    startRedis(),
    startRegistry(),
    startGitServer(),
    startDockerEngine({ engine: options.engine, daemonEnv: options.daemonEnv }),
  ]);
  const aws = await startAws();
  const ecr = await startRegistryProxy(registry, { login: aws.login });
  aws.configure({ proxyEndpoint: ecr.url });
  return {
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
}
