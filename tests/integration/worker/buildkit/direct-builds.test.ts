import { describeBuilds } from "./builds.ts";

await describeBuilds({ engine: "26.1", kind: "direct", isWhole: true });
