/** The control group that RUN steps run in. The machine's administrator creates it; the worker only reads it. */
import { describeSize } from "../disk/free-space.ts";
import { StepFailure } from "../job/failure.ts";
import { CGROUP_ROOT, type ControlGroup, controlGroup, describeLimits } from "./control-group.ts";

/** BuildKit's message for a step that SIGKILL ended. */
const KILLED = "exit code: 137";

export class BuildCgroup {
  readonly #group: ControlGroup;

  constructor(
    readonly path: string,
    root = CGROUP_ROOT,
  ) {
    this.#group = controlGroup(path, root);
  }

  /** The limits as they are now: they may change at any time. */
  describe(): string {
    return describeLimits(this.#group.limits());
  }

  /** @throws StepFailure when the group has no limits: BuildKit would create a missing group, without limits. */
  beginBuild(): BuildMemory {
    const limits = this.#group.limits();
    if (describeLimits(limits) !== "") return new BuildMemory(this.path, this.#group, limits.memoryBytes);
    const fault = `control group ${this.path} (BLACKTREE_BUILD_CGROUP) was removed or has no limits`;
    const message = `${fault}: create it and set its limits`;
    throw new StepFailure({ code: "INTERNAL", step: "build", message, retryable: true });
  }
}

/** Detects whether memory has run short since the build began, in this build or in another one in the group. */
export class BuildMemory {
  readonly #path: string;
  readonly #group: ControlGroup;
  readonly #limitBytes: number | undefined;
  readonly #killsBefore: number | undefined;

  constructor(path: string, group: ControlGroup, limitBytes: number | undefined) {
    this.#path = path;
    this.#group = group;
    this.#limitBytes = limitBytes;
    this.#killsBefore = group.oomKills();
  }

  /** Explains a RUN step's failure, for which BuildKit reported `stepEnd`; undefined when memory was not the cause. */
  oomMessage(stepEnd: string): string | undefined {
    if (this.#limitBytes === undefined) return undefined;
    const limit = describeSize(this.#limitBytes);
    const kills = this.#group.oomKills();
    if (kills === undefined) {
      const possibleCause = `builds in ${this.#path} may use ${limit} of memory, which may have been too little`;
      return stepEnd === KILLED ? possibleCause : undefined;
    }
    if (kills === this.#killsBefore) return undefined;
    return `builds in ${this.#path} may use ${limit} of memory, and the kernel ended processes that needed more`;
  }
}
