import { expect, test } from "bun:test";
import { Hono } from "hono";
import { readBody } from "../../../../src/orchestrator/admin/json-body.ts";

/** Answers what was read, or the problem. */
function post(body: ReadableStream): Promise<Response> {
  const app = new Hono();
  app.post("/", async (context) => {
    const read = await readBody(context, 10);
    return read instanceof Response ? read : context.text(read.toString());
  });
  return Promise.resolve(app.request("http://localhost/", { method: "POST", body }));
}

test("a body that arrives in parts is read", async () => {
  const response = await post(new Blob(["a".repeat(100_000), "b"]).stream());
  expect(await response.text()).toBe(`${"a".repeat(100_000)}b`);
});

test("a body that does not end is a problem with 408, and the connection is closed", async () => {
  const response = await post(
    new ReadableStream({ start: (controller) => controller.enqueue(Buffer.from("{")) }),
  );
  expect(response.status).toBe(408);
  expect(response.headers.get("connection")).toBe("close");
  expect(await response.json()).toMatchObject({ status: 408, title: "Body timed out" });
});

test("a client that disconnects is not an error of Blacktree", async () => {
  const response = await post(
    new ReadableStream({
      pull: (controller) => controller.error(new DOMException("The connection was closed.", "AbortError")),
    }),
  );
  expect(response.status).toBe(400);
});
