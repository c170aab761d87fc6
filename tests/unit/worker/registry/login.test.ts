import { expect, test } from "bun:test";
import { StepFailure } from "../../../../src/worker/job/failure.ts";
import type { RegistryAccess, TimedCredentials } from "../../../../src/worker/registry/access.ts";
import { RegistryLogin } from "../../../../src/worker/registry/login.ts";

const never = new AbortController().signal;
const refused = () => new StepFailure({ code: "ECR_AUTH", step: "push", message: "403 Forbidden" });
const passwordOf = (login: RegistryLogin) => login.access.credentials?.password;

/** Passwords "1", "2" and so on; `fails` is the number of the request that fails. */
function numbered(fails: (number: number) => boolean = () => false) {
  let asked = 0;
  const next = async (): Promise<TimedCredentials> => {
    asked++;
    if (fails(asked)) throw new Error("throttled");
    return { credentials: { username: "AWS", password: `${asked}` }, renew: next };
  };
  const access: RegistryAccess = {
    host: "registry.example",
    origin: "https://registry.example",
    tagMutability: "mutable",
    renew: next,
    credentials: { username: "AWS", password: "0" },
  };
  return { access, asked: () => asked };
}

function loginWith(access: RegistryAccess) {
  const lines: string[] = [];
  const renewed: (string | undefined)[] = [];
  const login = new RegistryLogin(access, {
    onRenewed: async ({ credentials }) => void renewed.push(credentials?.password),
    log: (line) => lines.push(line),
  });
  return { login, lines, renewed };
}

test("concurrent callers share one renewal", async () => {
  const { access, asked } = numbered();
  const { login, renewed } = loginWith(access);
  expect(await Promise.all([login.renew(), login.renew(), login.renew()])).toEqual([true, true, true]);
  expect(asked()).toBe(1);
  expect(await login.renew()).toBe(true);
  expect(renewed).toEqual(["1", "2"]);
  expect(login.access).toMatchObject({ host: "registry.example", credentials: { password: "2" } });
});

test("credentials that cannot be renewed stay, and the reason is logged", async () => {
  const { login, lines, renewed } = loginWith(numbered((number) => number === 1).access);
  expect(await login.renew()).toBe(false);
  expect(passwordOf(login)).toBe("0");
  expect(renewed).toEqual([]);
  expect(lines).toEqual(["failed to renew the registry credentials: throttled"]);
  expect(await login.renew()).toBe(true);
});

test("a refused push is retried once with new credentials", async () => {
  const { login, lines } = loginWith(numbered().access);
  const tried: (string | undefined)[] = [];
  const push = async () => {
    tried.push(passwordOf(login));
    if (tried.length === 1) throw refused();
    return "pushed";
  };
  expect(await login.pushing(push, never)).toBe("pushed");
  expect(tried).toEqual(["0", "1"]);
  expect(lines).toEqual(["403 Forbidden; retrying the push with new credentials"]);
});

test("a push that is refused with new credentials too is not retried", async () => {
  const { login } = loginWith(numbered().access);
  let tried = 0;
  const push = async () => {
    tried++;
    throw refused();
  };
  await expect(login.pushing(push, never)).rejects.toThrow("403 Forbidden");
  expect(tried).toBe(2);
});

test("a push is not retried after another failure, or without new credentials", async () => {
  const { access, asked } = numbered();
  const broken = new StepFailure({ code: "BUILD_FAILED", step: "build", message: "exit code: 3" });
  await expect(loginWith(access).login.pushing(() => Promise.reject(broken), never)).rejects.toBe(broken);
  const fixed = refused();
  const { login } = loginWith({ ...access, renew: undefined });
  await expect(login.pushing(() => Promise.reject(fixed), never)).rejects.toBe(fixed);
  expect(asked()).toBe(0);
});

test("credentials that expire during a push are renewed meanwhile", async () => {
  const { access, asked } = numbered();
  const renewed = Promise.withResolvers<void>();
  const login = new RegistryLogin(
    { ...access, usableUntilMs: Date.now() },
    { onRenewed: async () => renewed.resolve(), log: () => undefined },
  );
  expect(asked()).toBe(0);
  await login.pushing(() => renewed.promise, never);
  expect(passwordOf(login)).toBe("1");
});

test("an aborted run does not wait for a renewal", async () => {
  const { access } = numbered();
  const { login } = loginWith({ ...access, renew: () => new Promise(() => {}) });
  const abort = new AbortController();
  const ended = login.pushing(() => Promise.reject(refused()), abort.signal);
  abort.abort(new Error("cancelled"));
  await expect(ended).rejects.toThrow("cancelled");
});
