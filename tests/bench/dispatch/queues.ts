export const PLAIN_QUEUES = { jobs: "plain.jobs", results: "plain.results" } as const;
export const BLACKTREE_QUEUES = { jobs: "jobs.build", results: "jobs.results" } as const;
