// Parses an AsyncAPI document with AsyncAPI's own parser, and writes TypeScript types of its
// messages: `node check.mjs document.json types.ts`. Exits with 1 when the parser finds an error.

import { readFile, writeFile } from "node:fs/promises";

import { TypeScriptGenerator } from "@asyncapi/modelina";
import { Parser } from "@asyncapi/parser";

const ERROR = 0;

const [, , documentFile, typesFile] = process.argv;
const { document, diagnostics } = await new Parser().parse(await readFile(documentFile, "utf8"));
const errors = diagnostics.filter((diagnostic) => diagnostic.severity === ERROR);
for (const error of errors) {
  console.error(`${error.path.join(".")}: ${error.message}`);
}
if (document === undefined || errors.length > 0) {
  process.exit(1);
}

const models = await new TypeScriptGenerator({ modelType: "interface" }).generate(document);
await writeFile(typesFile, models.map((model) => `export ${model.result}`).join("\n\n"));
console.log(models.map((model) => model.modelName).join("\n"));
