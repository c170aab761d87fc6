/** Where the tests' builds run: an engine, and beside it a separate BuildKit for the tests that build with one. */
import type { BuilderLocation } from "../../../../src/worker/buildkit/builders/location.ts";
import { importBuildKitImage, missingBuildKit, startBuildKit } from "../../../support/servers/buildkit.ts";
import {
  type DockerEngine,
  type DockerEngineOptions,
  missingDockerEngine,
  startDockerEngine,
} from "../../../support/servers/docker-engines.ts";
import { borrowDockerEngine } from "../../../support/servers/pool.ts";

export interface BuildSiteOptions extends DockerEngineOptions {
  /** The engine belongs to the caller and may be killed; else it is borrowed, unless it needs a separate disk. */
  readonly own?: boolean;
  /** Builds instead of the engine's BuildKit. With a remote one, no engine answers the worker. */
  buildKit?: "container" | "remote";
}

export interface BuildSite {
  /** Runs the built images, also when it does not build them. */
  readonly engine: DockerEngine;
  readonly location: BuilderLocation;
  readonly driverOptions: readonly string[];
  /** PATH and DOCKER_HOST of the worker. */
  readonly environment: { readonly PATH: string; readonly DOCKER_HOST: string };
  /** Kills the engine or BuildKit that builds, without a clean-up. Only for one that belongs to the caller. */
  kill(): Promise<void>;
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** Why the tests of this site cannot run on this machine; undefined when they can. */
export async function missingForSite({ engine, buildKit }: BuildSiteOptions): Promise<string | undefined> {
  return (await missingDockerEngine(engine)) ?? (buildKit && (await missingBuildKit()));
}

export async function startBuildSite({ buildKit, own, ...options }: BuildSiteOptions): Promise<BuildSite> {
  const engine =
    own || options.dataDisk || options.daemonEnv
      ? await startDockerEngine(options)
      : unkillable(await borrowDockerEngine(options.engine, options.storage));
  const ofEngine = {
    engine,
    environment: engine.env(),
    kill: engine.kill,
    start: engine.start,
    stop: engine.stop,
  };
  try {
    if (buildKit === undefined) return { ...ofEngine, location: { kind: "engine" }, driverOptions: [] };
    if (buildKit === "container") {
      // On its default network it would not reach the tests' registry, which is on this machine.
      const driverOptions = [`image=${await importBuildKitImage(engine)}`, "network=host"];
      return { ...ofEngine, location: { kind: "container" }, driverOptions };
    }
    const remote = await startBuildKit();
    return {
      engine,
      location: { kind: "remote", address: remote.address },
      driverOptions: [],
      environment: { PATH: engine.env().PATH, DOCKER_HOST: "unix:///nowhere/docker.sock" },
      kill: remote.kill,
      start: remote.start,
      stop: async () => void (await Promise.all([remote.stop(), engine.stop()])),
    };
  } catch (error) {
    await engine.stop();
    throw error;
  }
}

function unkillable(borrowed: DockerEngine): Pick<BuildSite, "kill" | "start"> & DockerEngine {
  const refuse = () => Promise.reject(new Error("this engine is borrowed: ask for one with `own`"));
  return { ...borrowed, kill: refuse, start: refuse };
}
