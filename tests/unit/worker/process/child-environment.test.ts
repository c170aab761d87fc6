import { expect, test } from "bun:test";
import { childEnvironment } from "../../../../src/worker/process/child-environment.ts";
import { LOCAL_GIT_SETTINGS } from "../../../../src/worker/process/git-settings.ts";

test("passes on only the variables that git and docker need, and keeps children out of the account's home", () => {
  const host = {
    PATH: "/bin",
    HOME: "/root",
    DOCKER_CONFIG: "/root/.docker",
    XDG_CONFIG_HOME: "/root/.config",
    XDG_CACHE_HOME: "/root/.cache",
    NOTIFY_SOCKET: "/run/systemd/notify",
    WATCHDOG_PID: "1",
    WATCHDOG_USEC: "60000000",
    LANG: "de_DE.UTF-8",
    https_proxy: "http://proxy:3128",
    DOCKER_HOST: "unix:///x",
    AWS_SECRET_ACCESS_KEY: "secret",
    BUN_OPTIONS: "--preload x",
    BUN_BE_BUN: "1",
    GIT_ASKPASS: "/x",
    RABBITMQ_URL: "amqp://u:p@h",
    NO_PROXY: undefined,
  };
  expect(childEnvironment(host, "/run/home")).toEqual({
    ...LOCAL_GIT_SETTINGS,
    BUILDX_GIT_INFO: "false",
    PATH: "/bin",
    HOME: "/run/home",
    DOCKER_CONFIG: "/run/home/.docker",
    LANG: "C",
    LC_ALL: "C",
    https_proxy: "http://proxy:3128",
    DOCKER_HOST: "unix:///x",
  });
});
