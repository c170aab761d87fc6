import { describeBaseImages } from "./base-images.ts";

const isFullOnly = true;
await describeBaseImages({ engine: "20.10", isFullOnly });
await describeBaseImages({ engine: "26.1", storage: "overlay2", isFullOnly });
await describeBaseImages({ engine: "26.1", buildKit: "container", isFullOnly });
await describeBaseImages({ engine: "26.1", buildKit: "remote", isFullOnly });
