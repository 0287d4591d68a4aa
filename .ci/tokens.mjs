// What the gateway costs an agent, counted with a real tokenizer (o200k).
// node tokens.mjs NAME LIMIT < TEXT: prints the count; exits 1 where it is not under the limit.
import { readFileSync } from "node:fs";
import { Tiktoken } from "js-tiktoken/lite";
import o200k from "js-tiktoken/ranks/o200k_base";

const [name, limit] = process.argv.slice(2);
const tokens = new Tiktoken(o200k).encode(readFileSync(0, "utf8")).length;
console.log(`  ${name}: ${tokens} tokens, under ${limit} wanted`);
process.exit(tokens < Number(limit) ? 0 : 1);
