import { describe, expect, test } from "bun:test";
import { BadDockerAuths, readDockerAuths } from "../../../../src/worker/registry/docker-auths.ts";

const auth = (pair: string) => Buffer.from(pair).toString("base64");
const read = (file: unknown) => readDockerAuths(typeof file === "string" ? file : JSON.stringify(file));
const loginsOf = (auths: object) => Object.fromEntries(read({ auths }).logins);

describe("docker's configuration file", () => {
  test.each([
    [{ auth: auth("u:p:q") }, { username: "u", password: "p:q" }],
    [{ auth: auth("_json_key:{\n}") }, { username: "_json_key", password: "{\n}" }],
    [
      { username: "u", password: "p" },
      { username: "u", password: "p" },
    ],
    [{ auth: auth("<token>:"), identitytoken: "t" }, { identityToken: "t" }],
    [{ registrytoken: "t" }, { registryToken: "t" }],
  ])("an entry %j", (entry, login) => {
    expect(loginsOf({ "ghcr.io": entry })).toEqual({ "ghcr.io": login });
  });

  const login = { username: "u", password: "p" };

  test.each([
    ["https://index.docker.io/v1/", "docker.io"],
    ["index.docker.io", "docker.io"],
    ["registry-1.docker.io", "docker.io"],
    ["docker.io", "docker.io"],
    ["https://registry.example.com/v2/", "registry.example.com"],
    ["http://registry.example.com:5000", "registry.example.com:5000"],
    ["quay.io/organization", "quay.io"],
    ["Registry.Example.com", "registry.example.com"],
  ])("the key %s is for %s", (key, host) => {
    expect(loginsOf({ [key]: login })).toEqual({ [host]: login });
  });

  test("a key without a path has precedence, as in docker, and other settings of docker are ignored", () => {
    const auths = {
      "https://index.docker.io/v1/access-token": { auth: auth("x:y") },
      "https://index.docker.io/v1/": login,
      "quay.io/one": login,
      "quay.io/two": login,
    };
    expect(loginsOf(auths)).toEqual({ "docker.io": login, "quay.io": login });
    expect(read({ HttpHeaders: {}, currentContext: "x", proxies: {} }).logins.size).toBe(0);
  });

  test("helpers are those of the file: of a registry, and of the store for entries without a login", () => {
    const { logins, helpers } = read({
      auths: { "ghcr.io": {}, "quay.io": login, "https://index.docker.io/v1/": {} },
      credsStore: "pass",
      credHelpers: { "123456789012.dkr.ecr.us-east-1.amazonaws.com": "ecr-login", "quay.io": "quay" },
    });
    expect(logins.size).toBe(0);
    expect(Object.fromEntries(helpers)).toEqual({
      "ghcr.io": { name: "pass", server: "ghcr.io" },
      "docker.io": { name: "pass", server: "https://index.docker.io/v1/" },
      "quay.io": { name: "quay", server: "quay.io" },
      "123456789012.dkr.ecr.us-east-1.amazonaws.com": {
        name: "ecr-login",
        server: "123456789012.dkr.ecr.us-east-1.amazonaws.com",
      },
    });
  });

  const problemsOf = (file: unknown) => {
    try {
      read(file);
    } catch (error) {
      if (error instanceof BadDockerAuths) return error.message;
      throw error;
    }
    return undefined;
  };

  test.each<[unknown, string]>([
    ["", "not a JSON object"],
    ["{", "not a JSON object"],
    ["null", "not a JSON object"],
    ["[]", "not a JSON object"],
    [{ auths: [] }, "auths is not an object"],
    [{ auths: { "ghcr.io": "x" } }, 'auths["ghcr.io"] is not an object'],
    [{ auths: { "ghcr.io": null } }, 'auths["ghcr.io"] is not an object'],
    [{ auths: { "ghcr.io": {} } }, 'auths["ghcr.io"] has no login'],
    [{ auths: { "ghcr.io": { auth: "hush!" } } }, "not the base64 of user:password"],
    [{ auths: { "ghcr.io": { auth: auth("hush") } } }, "not the base64 of user:password"],
    [{ auths: { "ghcr.io": { auth: auth(":hush") } } }, "not the base64 of user:password"],
    [{ auths: { "ghcr.io": { username: "hush" } } }, "only one of username and password"],
    [{ auths: { "ghcr.io": { auth: 1 } } }, "has auth that is not a text"],
    [{ auths: { ghcr: login } }, 'auths["ghcr"] is not a registry\'s host'],
    [{ auths: { "quay.io/a": login, "quay.io/b": { identitytoken: "hush" } } }, "different logins"],
    [{ credHelpers: { "ghcr.io": "../hush" } }, "is not a helper's name"],
    [{ credHelpers: { x: "pass" } }, "is not a registry's host"],
    [{ credsStore: "a/b" }, "credsStore is not a helper's name"],
    [{ credsStore: 7 }, "credsStore is not a helper's name"],
  ])("%j is wrong", (file, problem) => {
    expect(problemsOf(file)).toContain(problem);
    expect(problemsOf(file)).not.toContain("hush");
  });

  test("all problems are named at once", () => {
    const message = problemsOf({ auths: { a: login, "ghcr.io": {} }, credHelpers: { "quay.io": 1 } });
    expect(message?.split("; ")).toHaveLength(3);
  });
});
