/**
 * Reports this program's state to systemd as sd_notify(3) describes: whether it does its work yet, one line for
 * `systemctl status`, and, while the event loop runs, the signs of life that WatchdogSec= requires. Without a
 * NOTIFY_SOCKET in the environment there is nothing to report to.
 */
import { dlopen } from "bun:ffi";
import { sleep } from "./abort.ts";
import type { Environment } from "./env.ts";
import type { Logger } from "./logging.ts";

export interface ServiceState {
  /** The program does its work. Until the first time, systemd counts it as starting. */
  readonly isReady: boolean;
  /** The start or the stop makes progress, so its time limit in the unit starts again. */
  readonly isProgressing: boolean;
  /** One line. */
  readonly status: string;
}

export interface ServiceManager {
  /** Calls `describe` until the program ends, and reports what it returns. */
  report(describe: () => ServiceState | Promise<ServiceState>): void;
  /** The program has begun to stop. */
  stopping(): void;
}

/** A start ends within this time of its last step. */
const START_REPORT_INTERVAL_MS = 500;
const REPORT_INTERVAL_MS = 5000;
/** Signs of life during one WatchdogSec=: sd_watchdog_enabled(3) recommends two, and one may be late. */
const SIGNS_PER_WATCHDOG_TIME = 4;
/** How long the limit of a start or stop is extended by each report; a blocked program ends after this time. */
const EXTENSION_USEC = 60_000_000;
const MAX_STATUS_CHARS = 500;

export function serviceManager(environment: Environment, logger: Logger): ServiceManager {
  const { NOTIFY_SOCKET: address } = environment;
  if (!address) return { report() {}, stopping() {} };
  if (!/^[/@]/.test(address)) {
    logger.warn({ address }, "cannot report to the service manager: NOTIFY_SOCKET is not a Unix socket");
    return { report() {}, stopping() {} };
  }
  return new Systemd(new NotifySocket(address), watchdogTimeMs(environment), logger);
}

/** Undefined: no signs of life are required, or they are required of another process. */
function watchdogTimeMs({ WATCHDOG_USEC, WATCHDOG_PID }: Environment): number | undefined {
  const isOurs = WATCHDOG_PID === undefined || WATCHDOG_PID === String(process.pid);
  return WATCHDOG_USEC !== undefined && isOurs ? Number(WATCHDOG_USEC) / 1000 : undefined;
}

class Systemd implements ServiceManager {
  /** Fields of the last report. */
  #reported = "";
  #isUnreachable = false;

  constructor(
    readonly socket: NotifySocket,
    watchdogMs: number | undefined,
    readonly logger: Logger,
  ) {
    if (watchdogMs !== undefined)
      setInterval(() => this.#send("WATCHDOG=1"), watchdogMs / SIGNS_PER_WATCHDOG_TIME);
  }

  report(describe: () => ServiceState | Promise<ServiceState>): void {
    void this.#reportForEver(describe);
  }

  stopping(): void {
    this.#send("STOPPING=1");
  }

  async #reportForEver(describe: () => ServiceState | Promise<ServiceState>): Promise<never> {
    for (;;) {
      let isReady = false;
      try {
        const state = await describe();
        isReady = state.isReady;
        this.#reportState(state);
      } catch (error) {
        this.logger.warn({ err: error }, "failed to describe the state for the service manager");
      }
      await sleep(isReady ? REPORT_INTERVAL_MS : START_REPORT_INTERVAL_MS);
    }
  }

  #reportState({ isReady, isProgressing, status }: ServiceState): void {
    const line = status.replaceAll(/\s+/g, " ").slice(0, MAX_STATUS_CHARS);
    const fields = `${isReady ? "READY=1\n" : ""}STATUS=${line}`;
    if (isProgressing) this.#send(`${fields}\nEXTEND_TIMEOUT_USEC=${EXTENSION_USEC}`);
    // Repeated by the next report when it was not sent.
    else if (fields !== this.#reported && this.#send(fields)) this.#reported = fields;
  }

  #send(fields: string): boolean {
    const isSent = this.socket.send(fields);
    if (!isSent && !this.#isUnreachable) this.logger.warn("the service manager does not accept reports");
    this.#isUnreachable = !isSent;
    return isSent;
  }
}

/** Constants of Linux. */
const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

/** Bun and Node.js have no datagram Unix sockets, so this calls the C library. */
class NotifySocket {
  readonly #libc = dlopen("libc.so.6", {
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    sendto: { args: ["i32", "ptr", "usize", "i32", "ptr", "u32"], returns: "i64" },
  }).symbols;
  readonly #descriptor: number;
  /** struct sockaddr_un. */
  readonly #address: Buffer;

  /** A path, or the name of an abstract socket after `@`. */
  constructor(path: string) {
    const family = Buffer.from(new Uint16Array([AF_UNIX]).buffer);
    this.#address = Buffer.concat([family, Buffer.from(path.replace(/^@/, "\0"))]);
    this.#descriptor = this.#libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  }

  /** Never waits. False: not sent. */
  send(text: string): boolean {
    const bytes = Buffer.from(text);
    const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    const { length } = this.#address;
    const sent = this.#libc.sendto(this.#descriptor, bytes, bytes.length, flags, this.#address, length);
    return Number(sent) === bytes.length;
  }
}
