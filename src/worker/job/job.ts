import type { Job, KnownImage, RunRef } from "../../shared/job.ts";

/** The part of a job that the pipeline needs; it does not depend on the job's sender or delivery. */
export type PipelineJob = RunRef &
  Pick<
    Job,
    | "repoUrl"
    | "branch"
    | "commit"
    | "gitToken"
    | "deploymentVersion"
    | "tenant"
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
    /** The latest first; only for jobs that may reuse an image. */
    readonly knownImages?: readonly KnownImage[];
  };
