import { expect, test } from "bun:test";
import { adminApiPage, PAGE } from "../../check/admin-api-page.ts";

test('docs/admin-api.md matches the OpenAPI document; "bun run admin-api-page" writes it', async () => {
  const page = await Bun.file(PAGE).text();
  expect(page).toBe(await adminApiPage(page));
});

test("the page shows a route's request, parameters, example and answers, and the fields of objects", async () => {
  const page = await Bun.file(PAGE).text();
  expect(page).toContain("### `GET /api/v1/jobs`");
  expect(page).toContain(
    "| `limit` | query | whole number from 1 to 500 | How many jobs at most. Default: `50`. |",
  );
  expect(page).toContain("'http://127.0.0.1:8080/api/v1/jobs?state=QUEUED,BUILDING&tenant=team-a'");
  expect(page).toContain("| 202 | [CancelledJob](#cancelledjob) |");
  expect(page).toContain("| 409 | [Problem](#problem) | The job has ended in another state. |");
  expect(page).toContain(
    "| `retryable` |  | boolean | The same job may succeed on another worker or later. |",
  );
});

test("a page without the marks of a generated section is refused", async () => {
  await expect(adminApiPage("# Admin API\n")).rejects.toThrow(
    "docs/admin-api.md has no section from <!-- begin routes",
  );
});
