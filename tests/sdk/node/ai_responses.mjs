// The AI SDK with its own OpenAI provider, which speaks Responses unless told otherwise. It sends references to items
// that it believes to be kept.
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const gateway = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL, apiKey: process.env.OPENAI_API_KEY });
const execute = ({ city }) => `sunny in ${city}`;
const inputSchema = z.object({ city: z.string() });
const tools = { get_weather: tool({ inputSchema, execute }) };
const ask = (model, more = {}) => ({ model: gateway(model), prompt: "hello", maxRetries: 0, ...more });

const whole = await generateText(ask("fast"));
assert.equal(whole.text, "Hello there!");
assert.equal(whole.usage.inputTokens, 7);

const streamed = streamText(ask("fast"));
let text = "";
for await (const part of streamed.fullStream) {
  assert.notEqual(part.type, "error", part.error);
  if (part.type === "text-delta") text += part.text;
}
assert.equal(text, "Hello there!");
assert.equal((await streamed.usage).outputTokens, 3);

// Once with what the gateway keeps, once with everything sent again.
for (const store of [true, false]) {
  for (const run of [generateText, streamText]) {
    const more = { tools, stopWhen: stepCountIs(3), providerOptions: { openai: { store } } };
    const result = await run(ask("up/tools", more));
    assert.equal(await result.text, "It is sunny.");
    const calls = (await result.steps)[0].toolCalls.map((call) => call.input.city);
    assert.deepEqual(calls, ["Paris", "Rome"]);
  }
}

const schema = z.object({ city: z.string(), degrees: z.number() });
const parsed = await generateText(ask("up/parse", { output: Output.object({ schema }) }));
assert.deepEqual(parsed.output, { city: "Paris", degrees: 21 });

const cut = streamText(ask("up/cut", { onError: () => {} }));
const kinds = [];
for await (const part of cut.fullStream) kinds.push(part.type);
assert(kinds.includes("error"), `a cut stream is no success: ${kinds}`);
console.log("ai with @ai-sdk/openai");
