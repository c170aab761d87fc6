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
    expect({ status: response.status, body: await response.text() }).toEqual({ status: 500, body: "" });
    expect(messages).toEqual(["admin API failed"]);
  } finally {
    await server.stop();
  }
});
