/** Errors of the admin API, and of the way to it. */

export interface Problem {
  readonly title?: string;
  readonly detail?: string;
  /** Each begins with the name of a field or a parameter. */
  readonly errors?: readonly string[];
}

interface ApiErrorOptions extends ErrorOptions {
  readonly mayHaveActed?: boolean;
}

/** The API answered with an error, or did not answer. The message is ready to print. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  /** The request may have reached an orchestrator, and had its effect. */
  readonly mayHaveActed: boolean;

  constructor(
    message: string,
    /** HTTP status; undefined if the API did not answer. */
    readonly status?: number,
    /** As the API reports it; empty if the answer is not that of Blacktree. */
    readonly problem: Problem = {},
    { mayHaveActed = false, ...options }: ApiErrorOptions = {},
  ) {
    super(message, options);
    this.mayHaveActed = mayHaveActed;
  }

  /** Another orchestrator may answer otherwise: this one did not, or is not one. */
  get mayAnotherAnswer(): boolean {
    const { status } = this;
    return status === undefined || status < 300 || [502, 503, 504].includes(status);
  }

  /**
   * The same request may succeed later. 429: too many clients of this machine follow logs, or one of them has sent
   * wrong tokens.
   */
  get mayPass(): boolean {
    const { status } = this;
    return status === undefined || status === 429 || status >= 500;
  }

  /** The same error, which also names the flags that fill the fields. */
  withFlags(flagOf: (field: string) => string | undefined): ApiError {
    if (!this.problem.errors) return this;
    const errors = this.problem.errors.map((error) =>
      error.replace(/^(\w+): /, (head, field) => {
        const flag = flagOf(field);
        return flag === undefined ? head : `${field} (${flag}): `;
      }),
    );
    const problem = { ...this.problem, errors };
    return this.#with(describeProblem(problem), problem);
  }

  /** The same error, with a further line. */
  withAdvice(advice: string): ApiError {
    return this.#with(`${this.message}\n${advice}`, this.problem);
  }

  #with(message: string, problem: Problem): ApiError {
    return new ApiError(message, this.status, problem, { cause: this, mayHaveActed: this.mayHaveActed });
  }
}

/** One line for one error. */
export function describeProblem({ title, detail, errors = [] }: Problem): string {
  if (errors.length === 1) return `${title}: ${errors[0]}`;
  if (errors.length > 1) return [`${title}:`, ...errors.map((each) => `  ${each}`)].join("\n");
  return detail === undefined ? `${title}` : `${title}: ${detail}`;
}

/** @param failures at least one, of the addresses in the order in which they were asked */
export function oneError(failures: readonly ApiError[]): ApiError {
  const last = failures.at(-1) as ApiError;
  if (failures.length === 1) return last;
  // An orchestrator has answered.
  const isFinal = !last.mayAnotherAnswer;
  const message = isFinal ? last.message : failures.map((failure) => failure.message).join("\n");
  const { status, problem } = isFinal ? last : (failures.find(({ mayPass }) => mayPass) ?? last);
  const mayHaveActed = failures.some((failure) => failure.mayHaveActed);
  return new ApiError(message, status, problem, { cause: last, mayHaveActed });
}
