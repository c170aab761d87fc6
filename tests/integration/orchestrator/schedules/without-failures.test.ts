import { testSchedules } from "./checked-schedules.ts";

testSchedules({
  name: "schedules: the guarantees hold, and no job needs the poll, while orchestrators and servers work",
  file: import.meta.path,
  isPolled: false,
});
