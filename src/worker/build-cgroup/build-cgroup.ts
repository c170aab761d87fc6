/** The control group that RUN steps run in. Whoever administers the machine has made it; the worker only looks at it. */
import { describeSize } from "../disk/free-space.ts";
import { StepFailure } from "../job/failure.ts";
import { CGROUP_ROOT, type ControlGroup, controlGroup, describeLimits } from "./control-group.ts";

/** What BuildKit says of a step that was ended by a signal that cannot be caught. */
const KILLED = "exit code: 137";

export class BuildCgroup {
  readonly #group: ControlGroup;

  constructor(
    readonly path: string,
    root = CGROUP_ROOT,
  ) {
    this.#group = controlGroup(path, root);
  }

  /** As they are now: they may be changed at any time. */
  describe(): string {
    return describeLimits(this.#group.limits());
  }

  /** @throws StepFailure when nothing is limited any more: of a group that is gone BuildKit makes one without limits. */
  beginBuild(): BuildMemory {
    const limits = this.#group.limits();
    if (describeLimits(limits) !== "") return new BuildMemory(this.path, this.#group, limits.memoryBytes);
    const message = `the control group ${this.path}, in which builds have to run, is gone or limits nothing any more`;
    throw new StepFailure({ code: "INTERNAL", step: "build", message, retryable: true });
  }
}

/** Whether memory ran short since this was made, in this build or in another one in the group. */
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

  /** What has to be said of a RUN step that ended with these words of BuildKit's; undefined when it was not memory. */
  oomMessage(stepEnd: string): string | undefined {
    if (this.#limitBytes === undefined) return undefined;
    const limit = describeSize(this.#limitBytes);
    const kills = this.#group.oomKills();
    if (kills === undefined) {
      const maybe = `builds in ${this.#path} may use ${limit} of memory, which may have been too little`;
      return stepEnd === KILLED ? maybe : undefined;
    }
    if (kills === this.#killsBefore) return undefined;
    return `builds in ${this.#path} may use ${limit} of memory, and the kernel ended processes that needed more`;
  }
}
