/** Explains why a base image cannot be pulled, from BuildKit's output and the logins that the build had. */
import { DOCKER_HUB, registryHost } from "../../shared/registry-login.ts";
import { endOfRunStep } from "../buildkit/failure.ts";
import { StepFailure } from "../job/failure.ts";
import type { OutputLine } from "../job/output-line.ts";
import type { BaseLogins } from "./base-logins.ts";

/** BuildKit's steps that request an image from its registry. */
const PULL_STEP = /^\[(?:internal\] load metadata for|[^\]]*\] FROM) (\S+)/;
const REFUSED =
  /\b40[13] (?:Unauthorized|Forbidden)\b|pull access denied|insufficient_scope|failed to fetch oauth token: .*\b4(?!08|29)\d\d [A-Z]/;
const ABSENT = /: not found$/;

/** The image whose pull has failed: not every version of BuildKit names it in its final error. */
export class FailedPull {
  readonly #images = new Map<string, string>();
  #image: string | undefined;

  get image(): string | undefined {
    return this.#image;
  }

  readonly note = ({ stream, text }: OutputLine): void => {
    const image = PULL_STEP.exec(text)?.[1];
    if (image !== undefined) this.#images.set(stream, image);
    else if (text.startsWith("ERROR: ")) this.#image = this.#images.get(stream) ?? this.#image;
  };
}

/** `target` is the host of the registry that the image is pushed to. */
export function blamingLogin(
  error: unknown,
  { image }: FailedPull,
  logins: BaseLogins,
  target: string,
): unknown {
  if (!(error instanceof StepFailure) || error.failure.code !== "BUILD_FAILED" || image === undefined)
    return error;
  const { message } = error.failure;
  const isRefused = REFUSED.test(message);
  if (endOfRunStep(message) !== undefined || !(isRefused || ABSENT.test(message))) return error;
  const reason = explanation({ registry: hostOf(image), isRefused }, logins, target);
  return new StepFailure({
    ...error.failure,
    message: `${reason}: ${message}`,
    retryable: false,
    cause: error,
  });
}

/** The first part of an image's name is its registry unless it is a user of Docker Hub. */
function hostOf(image: string): string {
  const [first = "", ...rest] = image.split("/");
  return (rest.length > 0 && registryHost(first)) || DOCKER_HUB;
}

function explanation(
  { registry, isRefused }: { registry: string; isRefused: boolean },
  logins: BaseLogins,
  target: string,
): string {
  const found = logins.get(registry);
  if (registry === (registryHost(target) ?? target)) {
    return `the registry ${registry} has no such base image, or the worker's login there, with which it pushes, may not pull it`;
  }
  if (found === undefined) {
    return `the base image is private or does not exist: for a private one, add a login for ${registry} to the job's registry_auths, or to BLACKTREE_REGISTRY_AUTH of the worker`;
  }
  if ("problem" in found.login) {
    return `the base image is private or does not exist, and the login for ${registry} is missing (${found.source}: ${found.login.problem})`;
  }
  if (isRefused) {
    return `the registry ${registry} refused the login of ${found.source}: check its user and password or token, and whether it may pull the base image`;
  }
  return `the registry ${registry} has no such base image, or hides it from the login of ${found.source}`;
}
