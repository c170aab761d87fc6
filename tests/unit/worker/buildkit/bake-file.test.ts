import { expect, test } from "bun:test";
import { yamlOf } from "../../../../src/worker/buildkit/bake-file.ts";

test("text is quoted in ASCII, and no part of it is a variable", () => {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: bake would replace it
  expect(yamlOf({ a: ["x y", "${HOME} $$"], "b\n": {} })).toBe(
    '{"a": ["x y", "$${HOME} $$$$"], "b\\U0000000a": {}}',
  );
});

test("a parser of YAML reads the same text", () => {
  const texts = [
    "",
    "a\nb\r\t\0",
    `"'\\\\n`,
    "e\u0301 é 😀 \u2028 \u0085 \ufeff \u007f",
    "null",
    "~",
    "- [x]: {y} # z",
    "%{if}",
  ];
  expect(Bun.YAML.parse(yamlOf({ texts }))).toEqual({ texts });
  expect(Bun.YAML.parse(yamlOf("a lone \ud800"))).toBe("a lone \ufffd");
});
