// Hold an AsyncAPI document against the specification: prints what is wrong as a JSON array.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const text = readFileSync(process.argv[2], "utf8");
const { document, diagnostics } = await new Parser().parse(text);
// 0 is an error, 1 a warning; what is left are pieces of advice.
const faults = diagnostics.filter((found) => found.severity <= 1);
console.log(JSON.stringify(faults.map((found) => `${found.path.join(".")}: ${found.message}`)));
process.exit(document === undefined ? 1 : 0);
