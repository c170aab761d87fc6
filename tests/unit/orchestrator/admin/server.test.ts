import { expect, test } from "bun:test";
import { Hono } from "hono";
import pino from "pino";
import type { AdminEnv } from "../../../../src/orchestrator/admin/client-address.ts";
import { serveAdmin } from "../../../../src/orchestrator/admin/server.ts";

test("an error that the app does not handle is logged, and not shown to the client", async () => {
  const messages: unknown[] = [];
  const logger = pino({}, { write: (line) => void messages.push(JSON.parse(line).msg) });
  const app = new Hono<AdminEnv>();
  // Hono handles only errors.
  app.get("/", () => Promise.reject("hidden"));
  const server = serveAdmin(app, { host: "127.0.0.1", port: 0 }, logger);
  try {
    const response = await fetch(`http://127.0.0.1:${server.port}/`);
    expect(response.status).toBe(500);
    expect(await response.json()).toEqual({
      type: "about:blank",
      status: 500,
      title: "Internal error",
      detail: "an error of Blacktree; the orchestrator's log has it",
    });
    expect(messages).toEqual(["admin API failed"]);
  } finally {
    await server.stop();
  }
});
