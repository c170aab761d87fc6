import type { Job, KnownImage, RunRef } from "../../shared/job.ts";

/** What the pipeline has to know of a job; who asked, and how it got here, is none of its business. */
export type PipelineJob = RunRef &
  Pick<
    Job,
    | "repoUrl"
    | "branch"
    | "commit"
    | "gitToken"
    | "deploymentVersion"
    | "awsAccount"
    | "ecrRepo"
    | "region"
    | "dockerfile"
    | "context"
    | "target"
    | "buildArgs"
    | "labels"
    | "provenance"
    | "platforms"
    | "secrets"
  > & {
    /** The latest first; none unless the job may reuse one. */
    readonly knownImages?: readonly KnownImage[];
  };
