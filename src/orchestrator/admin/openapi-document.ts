/** `GET /openapi.json`: the OpenAPI document, made of what the routes say about themselves (openapi.ts). */
import type { Hono } from "hono";
import { generateSpecs } from "hono-openapi";
import { z } from "zod";
import { VERSION } from "../../shared/version.ts";
import type { AdminEnv } from "./client-address.ts";
import { documented, problemAnswers, referenceTo } from "./openapi.ts";

export type OpenApiDocument = Awaited<ReturnType<typeof generateSpecs>>;

/** Made from the routes that `app` has by now. */
export async function openApiDocument(app: Hono<AdminEnv>): Promise<OpenApiDocument> {
  const document = await generateSpecs(app, {
    // Its name has a dot, as that of a file.
    excludeStaticFile: false,
    defaultValidationErrorResponse: false,
    documentation: {
      openapi: "3.1.0",
      info: {
        title: "Blacktree admin API",
        version: VERSION,
        description:
          "Jobs, workers and logs of a Blacktree installation. Any orchestrator answers for all of them. Each `POST` requires `Content-Type: application/json`, also without a body.",
      },
      components: {
        securitySchemes: {
          token: {
            type: "http",
            scheme: "bearer",
            description: "The token of `BLACKTREE_ADMIN_TOKEN` or `BLACKTREE_ADMIN_TOKEN_FILE`.",
          },
        },
        responses: problemAnswers() as never,
      },
      security: [{ token: [] }],
    },
  });
  for (const { post } of Object.values(document.paths)) {
    // Checked before any route (guard.ts).
    if (post) post.responses[415] = referenceTo(415);
  }
  return document;
}

const DOCUMENT = z.record(z.string(), z.unknown());

export function addOpenApi(app: Hono<AdminEnv>): void {
  let document: Promise<OpenApiDocument> | undefined;
  app.get(
    "/openapi.json",
    documented({
      id: "getOpenApiDocument",
      summary: "This API as an OpenAPI 3.1 document",
      tag: "Orchestrator",
      answer: DOCUMENT,
    }),
    async (context) => {
      document ??= openApiDocument(app);
      return context.json(await document);
    },
  );
}
