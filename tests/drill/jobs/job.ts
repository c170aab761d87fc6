/** A job of the drill: its message, what it must end in, and what else is sent about it. */

export type JobKind =
  | "quick"
  | "long"
  /** Its build fails. */
  | "failing"
  /** Its platform is one whose programs no worker runs. */
  | "foreign"
  /** A field is wrong. */
  | "invalid"
  /** It is not JSON, and its id cannot be read. */
  | "malformed";

/** A further message or request about a job, some time after it was sent. */
export interface FollowUp {
  readonly kind: /** Requested of an orchestrator. */
    | "cancel"
    /** The same message again. */
    | "duplicate"
    /** Another job under the same id. */
    | "conflict";
  readonly afterMs: number;
}

export interface JobMessage {
  readonly job_id: string;
  readonly repo_url: string;
  readonly branch: string;
  readonly deployment_version: string;
  readonly aws_account: string;
  readonly ecr_repo: string;
  readonly tenant: string;
  readonly worker_region: string;
  readonly region_policy: "prefer" | "require";
  readonly priority: "low" | "normal" | "high";
  readonly build_args: Readonly<Record<string, string>>;
  readonly secrets?: Readonly<Record<string, string>>;
  readonly provenance?: boolean;
  readonly platforms?: readonly string[];
  readonly supersede?: string;
}

export interface DrillJob {
  readonly kind: JobKind;
  readonly message: JobMessage;
  readonly followUps: readonly FollowUp[];
}

/** The repository that all jobs build. */
export const REPOSITORY = "drill/sample";
/** Of the versions: no other tag begins with it. */
export const VERSION_PREFIX = "v-";

/** The other job under the id of this one. */
export function conflictingMessage({ message }: DrillJob): JobMessage {
  return { ...message, deployment_version: `${message.deployment_version}-other` };
}

export function bodyOf({ kind, message }: DrillJob): string {
  const body = JSON.stringify(message);
  if (kind === "malformed") return body.slice(0, -1);
  return kind === "invalid" ? JSON.stringify({ ...message, deployment_version: "not a tag" }) : body;
}
