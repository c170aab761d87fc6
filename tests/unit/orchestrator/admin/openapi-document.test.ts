/** The OpenAPI document describes all of the API. */
import { describe, expect, test } from "bun:test";
import pino from "pino";
import { createAdminApp } from "../../../../src/orchestrator/admin/app.ts";
import type { AdminParts } from "../../../../src/orchestrator/admin/parts.ts";
import { apiDocument, type Operation } from "../../../support/blacktree/api-document.ts";

const document = await apiDocument();

const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]): [string, string, Operation] => [
    method.toUpperCase(),
    path,
    operation,
  ]),
);

const app = createAdminApp({
  listen: { host: "127.0.0.1", port: 8080 },
  hosts: [],
  names: {},
  token: "correct-horse",
  logger: pino({ level: "silent" }),
} as unknown as AdminParts);

test("it has every route", () => {
  const routes = app.routes.filter(({ method }) => method !== "ALL");
  const served = new Set(routes.map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}`));
  expect(operations.map(([method, path]) => `${method} ${path}`).toSorted()).toEqual([...served].toSorted());
});

test("operations have readable ids, each once", () => {
  const ids = operations.map(([, , { operationId }]) => operationId);
  expect(ids).toEqual([...new Set(ids)]);
  expect(ids).toEqual(
    expect.arrayContaining(["listJobs", "getJob", "submitJob", "cancelJob", "listWorkers"]),
  );
  for (const id of ids) expect(id).toMatch(/^(get|list|[a-z]+)[A-Z][A-Za-z]+$/);
});

describe.each(operations)("%s %s", (method, path, operation) => {
  test("its parameters are described and limited, and its answers have meanings", () => {
    for (const { description, schema } of operation.parameters ?? []) {
      expect(description).toBeString();
      expect(schema).not.toEqual({ type: "string" });
    }
    const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
    const described = (operation.parameters ?? []).filter(({ in: place }) => place === "path");
    expect(described.map(({ name }) => name)).toEqual(inPath as string[]);
    for (const { $ref, description } of Object.values(operation.responses))
      expect($ref ?? description).toBeString();
  });

  test("it needs the token exactly if the document says so", async () => {
    const isPublic = operation.security?.length === 0;
    expect(isPublic).toBe(path === "/healthz" || path === "/readyz");
    const headers = { host: "127.0.0.1:8080", "content-type": "application/json" };
    const url = `http://127.0.0.1:8080${path.replaceAll(/[{}]/g, "")}`;
    const { status } = await app.request(url, { method, headers }, { clientAddress: "192.0.2.1" });
    if (isPublic) expect(status).not.toBe(401);
    else expect(status).toBe(401);
  });
});
