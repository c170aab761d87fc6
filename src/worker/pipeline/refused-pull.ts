/** Explains why a base image cannot be pulled, from BuildKit's final error and the logins that the build had. */
import { registryHost } from "../../shared/registry-login.ts";
import { endOfRunStep } from "../buildkit/failure.ts";
import { StepFailure } from "../job/failure.ts";
import type { BaseLogins } from "./base-logins.ts";

/** The image, or only its registry, which Docker 20.10 names; that engine names neither when a token is refused. */
const PULL =
  /failed to resolve source metadata for (?<image>\S+): |pulling from host (?<host>\S+) failed|^failed to create LLB definition: (?:(?<absent>\S+): not found$|failed to authorize)/;
const REFUSED =
  /\b40[13] (?:Unauthorized|Forbidden)\b|pull access denied|insufficient_scope|failed to fetch oauth token: .*\b4(?!08|29)\d\d [A-Z]/;
const ABSENT = /: not found$/;

/** `target` is the host of the registry that the image is pushed to. */
export function blamingLogin(error: unknown, logins: BaseLogins, target: string): unknown {
  if (!(error instanceof StepFailure) || error.failure.code !== "BUILD_FAILED") return error;
  const { message } = error.failure;
  const { image, host, absent } = PULL.exec(message)?.groups ?? {};
  const isPull = PULL.test(message) && endOfRunStep(message) === undefined;
  if (!isPull || !(REFUSED.test(message) || ABSENT.test(message))) return error;
  const registry = host === undefined ? hostOf(image ?? absent) : (registryHost(host) ?? host);
  const reason = explanation({ registry, isRefused: REFUSED.test(message) }, logins, target);
  return new StepFailure({
    ...error.failure,
    message: `${reason}: ${message}`,
    retryable: false,
    cause: error,
  });
}

/** The first part of an image's name is its registry unless it is a user of Docker Hub. */
function hostOf(image: string | undefined): string | undefined {
  if (image === undefined) return undefined;
  const [first = "", ...rest] = image.split("/");
  return (rest.length > 0 && registryHost(first)) || "docker.io";
}

function explanation(
  { registry, isRefused }: { registry: string | undefined; isRefused: boolean },
  logins: BaseLogins,
  target: string,
): string {
  if (registry === undefined) {
    return "the registry of a base image refused the login, or there is none: check the registry_auths of the job and BLACKTREE_REGISTRY_AUTH of the worker";
  }
  const found = logins.get(registry);
  if (registry === (registryHost(target) ?? target)) {
    return `the registry ${registry} has no such base image, or the worker's login there, with which it pushes, may not pull it`;
  }
  if (found === undefined) {
    return `the base image is private or does not exist: for a private one, add a login for ${registry} to the job's registry_auths, or to BLACKTREE_REGISTRY_AUTH of the worker`;
  }
  if ("problem" in found.login) {
    return `the base image is private or does not exist, and there is no login for ${registry} (${found.source}: ${found.login.problem})`;
  }
  if (isRefused) {
    return `the registry ${registry} refused the login of ${found.source}: check its user and password or token, and whether it may pull the base image`;
  }
  return `the registry ${registry} has no such base image, or hides it from the login of ${found.source}`;
}
