/** Reports the states of its arguments, one after the other, and the last one until it is ended. */
import pino from "pino";
import { environment } from "../../../src/shared/env.ts";
import { type ServiceState, serviceManager } from "../../../src/shared/service-manager.ts";

const states = process.argv.slice(2).map((state) => JSON.parse(state) as ServiceState);
const manager = serviceManager(environment(), pino());
manager.report(() => (states.length > 1 ? states.shift() : states[0]) as ServiceState);
process.on("SIGTERM", () => {
  manager.stopping();
  process.exit();
});
// Also without a service manager the program runs until it is ended.
setInterval(() => undefined, 1000);
process.stdout.write("reporting\n");
