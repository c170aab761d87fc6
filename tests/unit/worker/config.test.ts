import { describe, expect, test } from "bun:test";
import { SettingsError } from "../../../src/shared/settings.ts";
import { firstReachableAddress } from "../../../src/worker/advertised-address.ts";
import { listenAddress, loadWorkerSettings } from "../../../src/worker/config.ts";

const REQUIRED = { BLACKTREE_ORCHESTRATOR_ADDR: "127.0.0.1:5051", AWS_REGION: "eu-west-1" };

function load(environment: Record<string, string>) {
  return loadWorkerSettings({ flags: {}, environment }).values;
}

function problems(environment: Record<string, string>): readonly string[] {
  try {
    load(environment);
    return [];
  } catch (error) {
    if (error instanceof SettingsError) return error.problems.map(({ name }) => name);
    throw error;
  }
}

describe("worker settings", () => {
  test("the region is AWS_REGION unless it is set", () => {
    expect(load(REQUIRED).region).toBe("eu-west-1");
    expect(load({ ...REQUIRED, BLACKTREE_WORKER_REGION: "cellar" }).region).toBe("cellar");
    expect(problems({ BLACKTREE_ORCHESTRATOR_ADDR: "127.0.0.1:5051" })).toEqual(["BLACKTREE_WORKER_REGION"]);
  });

  test("without TLS the worker stays on loopback", () => {
    expect(listenAddress(load(REQUIRED))).toEqual({ host: "127.0.0.1", port: 6000 });
    expect(problems({ ...REQUIRED, BLACKTREE_WORKER_LISTEN: "0.0.0.0:6000" })).toEqual([
      "BLACKTREE_WORKER_LISTEN",
    ]);
    expect(
      problems({ ...REQUIRED, BLACKTREE_WORKER_LISTEN: "0.0.0.0:6000", BLACKTREE_INSECURE: "true" }),
    ).toEqual([]);
  });

  test("the three TLS files go together", () => {
    const names = problems({ ...REQUIRED, BLACKTREE_TLS_CA: "/nowhere.pem" });
    expect(names).toEqual(["BLACKTREE_TLS_CA", "BLACKTREE_TLS_CERT", "BLACKTREE_TLS_KEY"]);
  });

  test("every bad one is named at once", () => {
    const names = problems({
      BLACKTREE_ORCHESTRATOR_ADDR: "nowhere",
      BLACKTREE_WORKER_SLOTS: "0",
      BLACKTREE_WORK_DIR: "relative",
      BLACKTREE_DRAIN_TIMEOUT: "soon",
      BLACKTREE_ECR_ROLE_ARN: "arn",
      BLACKTREE_GIT_BASE_URL: "ftp://x",
    });
    expect(names).toHaveLength(7);
  });
});

describe("the advertised address", () => {
  const interfaces = {
    lo: [{ address: "127.0.0.1", family: "IPv4", internal: true }],
    eth0: [
      { address: "fe80::1", family: "IPv6", internal: false },
      { address: "2001:db8::7", family: "IPv6", internal: false },
      { address: "192.0.2.7", family: "IPv4", internal: false },
    ],
  } as unknown as ReturnType<typeof import("node:os").networkInterfaces>;

  test("is the listener's own", () => {
    expect(firstReachableAddress({ host: "127.0.0.1", port: 6000 }, interfaces)).toEqual({
      host: "127.0.0.1",
      port: 6000,
    });
  });

  test("is the machine's first beyond loopback when the listener takes all", () => {
    expect(firstReachableAddress({ host: "0.0.0.0", port: 6000 }, interfaces)).toEqual({
      host: "192.0.2.7",
      port: 6000,
    });
    expect(firstReachableAddress({ host: "0.0.0.0", port: 6000 }, { lo: interfaces.lo })).toEqual({
      host: "127.0.0.1",
      port: 6000,
    });
  });
});
