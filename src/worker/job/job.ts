import type { Job, KnownImage, RunRef } from "../../shared/job.ts";

/** The part of a job that the pipeline needs; it does not depend on the job's sender or delivery. */
export type PipelineJob = RunRef &
  Pick<
    Job,
    | "repoUrl"
    | "branch"
    | "commit"
    | "gitDepth"
    | "gitTags"
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
    | "registryAuths"
  > & {
    /** When the run times out, as `performance.now` counts. */
    readonly deadlineMs?: number;
    /** If true, an image of another version may become the job's. */
    readonly mayReuse?: boolean;
    /** Images of the job's repository, the latest first; only for jobs that may reuse one. */
    readonly knownImages?: readonly KnownImage[];
    /** Images that had the job's version tag, the latest first. */
    readonly versionImages?: readonly KnownImage[];
  };
