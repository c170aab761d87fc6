/**
 * Writes the routes and objects of docs/admin-api.md from the OpenAPI document; the text around them is edited in the page.
 *
 *   bun run admin-api-page
 */
import { join } from "node:path";
import {
  type Answer,
  type ApiDocument,
  apiDocument,
  type Operation,
  type Schema,
} from "../support/blacktree/api-document.ts";

export const PAGE = join(import.meta.dir, "../../docs/admin-api.md");

/** Appended to a route's description: links to other pages, which the document cannot have. */
const REMARKS: Readonly<Record<string, string>> = {
  "GET /readyz": "See [queues with which RabbitMQ drops jobs](many-machines.md#policies-and-other-queues).",
  "GET /api/v1/workers": "A lost worker is listed for an hour. `blacktree workers` prints the list.",
  "POST /api/v1/jobs":
    "The fields, and what makes two messages the same job, are in [messages.md](messages.md#jobs-queue-jobsbuild).",
  "GET /api/v1/jobs/{id}/waiting":
    "`blacktree why ID` prints it, and `blacktree submit --wait` does if a job still waits after two seconds.",
  "POST /api/v1/jobs/{id}/cancel": "See [cancelling](messages.md#cancelling).",
  "GET /api/v1/jobs/{id}/logs": "See [following a log](#following-a-log).",
};

interface Route {
  /** `GET /healthz` */
  readonly label: string;
  readonly method: string;
  readonly path: string;
  readonly operation: Operation;
}

function routesOf({ paths }: ApiDocument): Route[] {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([name, operation]) => {
      const method = name.toUpperCase();
      return { label: `${method} ${path}`, method, path, operation };
    }),
  );
}

const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll(/\s*\n\s*/g, " ");

function tableOf(head: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return "";
  const line = (cells: readonly string[]) => `| ${cells.map(cell).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

/** Paragraphs, without the empty ones. */
const paragraphs = (...parts: readonly (string | undefined)[]) => parts.filter(Boolean).join("\n\n");

const nameIn = (reference: string) => reference.split("/").at(-1) ?? "";

const code = (value: unknown) => `\`${typeof value === "string" ? value : JSON.stringify(value)}\``;

const oneOf = (types: readonly string[]) => [...new Set(types)].join(" or ");

function typeOf(schema: Schema): string {
  if (schema.$ref !== undefined) return `[${nameIn(schema.$ref)}](#${nameIn(schema.$ref).toLowerCase()})`;
  if (schema.const !== undefined) return code(schema.const);
  if (schema.enum) return oneOf(schema.enum.map(code));
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return oneOf(choices.map(typeOf));
  if (typeof schema.type !== "string") return oneOf((schema.type ?? ["any value"]).map(typeName));
  if (schema.type === "array") return `list of ${typeOf(schema.items ?? {})}`;
  if (schema.type === "object" && schema.properties)
    return `object of ${Object.entries(schema.properties)
      .map(([name, field]) => `\`${name}\`: ${typeOf(field)}`)
      .join(", ")}`;
  if (schema.type === "object" && schema.additionalProperties)
    return `object of ${typeOf(schema.additionalProperties)} by name`;
  return [schema.format === "date-time" ? "time (RFC 3339)" : typeName(schema.type), rangeOf(schema)]
    .filter(Boolean)
    .join(" ");
}

const typeName = (type: string) => (type === "null" ? "`null`" : type === "integer" ? "whole number" : type);

/** Whole numbers without a specified bound have those of JavaScript. */
function rangeOf({ minimum, maximum, maxLength }: Schema): string {
  const hasMaximum = maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER;
  if (minimum !== undefined && hasMaximum) return `from ${minimum} to ${maximum}`;
  if (minimum !== undefined && minimum > 0) return `from ${minimum} on`;
  return maxLength === undefined ? "" : `of at most ${maxLength} characters`;
}

function meaningOf(description: string | undefined, schema: Schema): string {
  const byDefault = isEmpty(schema.default) ? [] : [`Default: ${code(schema.default)}.`];
  const example = schema.examples?.[0];
  const examples = example === undefined ? [] : [`Example: ${code(example)}.`];
  return [description ?? schema.description, ...byDefault, ...examples].filter(Boolean).join(" ");
}

const isEmpty = (value: unknown) =>
  value === undefined ||
  value === "" ||
  (typeof value === "object" && value !== null && Object.keys(value).length === 0);

const FIELD_HEAD = ["field", "", "type", "meaning"];

function fieldsOf({ properties = {}, required = [] }: Schema): string {
  const rows = Object.entries(properties).map(([name, field]) => [
    `\`${name}\``,
    required.includes(name) ? "" : "optional",
    typeOf(field),
    meaningOf(undefined, field),
  ]);
  return tableOf(FIELD_HEAD, rows);
}

function parametersOf({ parameters = [] }: Operation): string {
  const rows = parameters.map(({ name, in: place, description, schema }) => [
    `\`${name}\``,
    place,
    typeOf(schema),
    meaningOf(description, schema),
  ]);
  return tableOf(["parameter", "in", "type", "meaning"], rows);
}

const bodySchemaOf = ({ requestBody }: Operation) => requestBody?.content["application/json"]?.schema;

function bodyOf(operation: Operation): string {
  const schema = bodySchemaOf(operation);
  if (!schema) return "";
  const optional = operation.requestBody?.required ? "" : ", may be empty";
  return paragraphs(`Body${optional}: ${typeOf(schema)}.`, operation.requestBody?.description);
}

/** A value that the route accepts, as the schema's examples and defaults have it. */
function exampleOf(schema: Schema | undefined, document: ApiDocument): unknown {
  if (!schema) return undefined;
  if (schema.$ref !== undefined) return exampleOf(document.components.schemas[nameIn(schema.$ref)], document);
  const { properties, required = [] } = schema;
  if (!properties) return schema.examples?.[0] ?? schema.enum?.[0] ?? (schema.default || undefined);
  const names = required.length > 0 ? required : Object.keys(properties);
  return Object.fromEntries(names.map((name) => [name, exampleOf(properties[name], document)]));
}

const MAX_EXAMPLE_PARAMETERS = 2;

function exampleRequest({ method, path, operation }: Route, document: ApiDocument): string {
  const { parameters = [], security } = operation;
  const examples = parameters
    .map(({ in: place, name, schema }) => ({ place, name, value: exampleOf(schema, document) }))
    .filter(({ value }) => value !== undefined);
  const query = examples
    .filter(({ place }) => place === "query")
    .slice(0, MAX_EXAMPLE_PARAMETERS)
    .map(({ name, value }) => `${name}=${value}`)
    .join("&");
  const filled = examples.reduce((text, { name, value }) => text.replace(`{${name}}`, String(value)), path);
  const body = exampleOf(bodySchemaOf(operation), document);
  const post =
    method === "POST" ? [`  -H 'Content-Type: application/json' -d '${JSON.stringify(body ?? {})}'`] : [];
  const token = security?.length === 0 ? "" : ` -H "Authorization: Bearer $BLACKTREE_ADMIN_TOKEN"`;
  const url = `'http://127.0.0.1:8080${filled}${query === "" ? "" : `?${query}`}'`;
  return ["```sh", [`curl${token} ${url}`, ...post].join(" \\\n"), "```"].join("\n");
}

const isProblem = ({ $ref = "" }: Answer) => $ref.startsWith("#/components/responses/");

/** Statuses of problems that every route with a token can answer with. */
function commonStatuses(routes: readonly Route[]): ReadonlySet<string> {
  const [first = new Set<string>(), ...others] = routes
    .filter(({ operation: { security } }) => security === undefined)
    .map(
      ({ operation: { responses } }) =>
        new Set(Object.keys(responses).filter((status) => isProblem(responses[status] ?? {}))),
    );
  return others.reduce((common, statuses) => common.intersection(statuses), first);
}

function answersOf({ responses }: Operation, document: ApiDocument, common: ReadonlySet<string>): string {
  const rows = Object.entries(responses)
    .filter(([status, answer]) => !isCommon(status, answer, common))
    .map(([status, answer]) => {
      const shared = document.components.responses[nameIn(answer.$ref ?? "")];
      const content = isProblem(answer) ? "[Problem](#problem)" : contentOf(answer);
      return [status, content, answer.description ?? shared?.description ?? ""];
    });
  return tableOf(["answer", "content", "meaning"], rows);
}

/** It means here what it means at every route. */
function isCommon(status: string, answer: Answer, common: ReadonlySet<string>): boolean {
  return isProblem(answer) && answer.description === undefined && common.has(status);
}

function contentOf({ content = {} }: Answer): string {
  const json = content["application/json"];
  return json ? typeOf(json.schema) : Object.keys(content).map(code).join(" or ");
}

function sectionOf(route: Route, document: ApiDocument, common: ReadonlySet<string>): string {
  const { label, operation } = route;
  const { summary, description, security } = operation;
  const token = security?.length === 0 ? "Needs no token." : undefined;
  return paragraphs(
    `### \`${label}\``,
    `${summary}. ${[description, description?.includes("token") ? undefined : token, REMARKS[label]].filter(Boolean).join(" ")}`.trim(),
    parametersOf(operation),
    bodyOf(operation),
    exampleRequest(route, document),
    answersOf(operation, document, common),
  );
}

function routeSections(document: ApiDocument): string {
  const routes = routesOf(document);
  const labels = new Set(routes.map(({ label }) => label));
  const unknown = Object.keys(REMARKS).find((label) => !labels.has(label));
  if (unknown !== undefined) throw new Error(`there is no route ${unknown}, so its remark is not used`);
  const common = commonStatuses(routes);
  const overview = routes.map(({ label, operation: { summary } }) => [
    `[\`${label}\`](#${anchorOf(label)})`,
    summary,
  ]);
  return paragraphs(
    tableOf(["request", "answer"], overview),
    `Every route that needs the token can also answer with the [problems](#errors) ${[...common].join(", ")}.`,
    ...routes.map((route) => sectionOf(route, document, common)),
  );
}

/** As GitHub makes it of a heading. */
const anchorOf = (heading: string) =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}_ -]/gu, "")
    .replaceAll(" ", "-");

function objectSections({ components }: ApiDocument): string {
  const schemas = Object.entries(components.schemas).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return paragraphs(
    ...schemas.map(([name, schema]) =>
      paragraphs(
        `### ${name}`,
        schema.description,
        schema.properties ? fieldsOf(schema) : `${typeOf(schema)}.`,
      ),
    ),
  );
}

function problemTable({ components }: ApiDocument): string {
  const rows = Object.entries(components.responses).map(([name, { description = "" }]) => [
    name.replace("Problem", ""),
    description,
  ]);
  return tableOf(["status", "meaning"], rows);
}

/** The page with its generated sections replaced; the text around them stays. */
export async function adminApiPage(current: string): Promise<string> {
  const document = await apiDocument();
  const sections: Readonly<Record<string, string>> = {
    routes: routeSections(document),
    objects: objectSections(document),
    problems: problemTable(document),
  };
  return Object.entries(sections).reduce((page, [name, content]) => {
    const begin = `<!-- begin ${name}: written by "bun run admin-api-page" -->\n`;
    const end = `\n<!-- end ${name} -->`;
    const [before, after] = [page.indexOf(begin), page.indexOf(end)];
    if (before === -1 || after < before)
      throw new Error(`docs/admin-api.md has no section from ${begin.trim()} to ${end.trim()}`);
    return `${page.slice(0, before)}${begin}\n${content}\n${page.slice(after)}`;
  }, current);
}

if (import.meta.main) await Bun.write(PAGE, await adminApiPage(await Bun.file(PAGE).text()));
