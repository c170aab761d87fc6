import { expect, test } from "bun:test";
import { PAGE, settingsPage } from "../../check/settings-page.ts";

test('docs/settings.md matches the settings in the code; "bun run settings-page" writes it', async () => {
  const page = await Bun.file(PAGE).text();
  expect(page).toBe(settingsPage(page));
});

test("the page shows the flag, variable, default, range and description of a setting", async () => {
  const page = await Bun.file(PAGE).text();
  expect(page).toContain("| `--worker-slots` | `BLACKTREE_WORKER_SLOTS` | `1` (1 to 64) |");
  expect(page).toContain("|  | `RABBITMQ_URL` | required |");
  expect(page).toContain("| `--tls-ca` | `BLACKTREE_TLS_CA` | none |");
});

test("a page without the marks of a generated section is refused", () => {
  expect(() => settingsPage("# Settings\n")).toThrow(
    "docs/settings.md has no section from <!-- begin secrets",
  );
});
