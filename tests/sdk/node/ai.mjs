// The AI SDK with its OpenAI-compatible provider: the strictest reader of chunks that we know.
import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const gateway = createOpenAICompatible({
  name: "tollgate",
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: process.env.OPENAI_API_KEY,
  includeUsage: true,
});
const tools = {
  get_weather: tool({
    inputSchema: z.object({ city: z.string() }),
    execute: ({ city }) => `sunny in ${city}`,
  }),
};
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

for (const run of [generateText, streamText]) {
  const result = await run(ask("up/tools", { tools, stopWhen: stepCountIs(3) }));
  assert.equal(await result.text, "It is sunny.");
  const calls = (await result.steps)[0].toolCalls.map((call) => call.input.city);
  assert.deepEqual(calls, ["Paris", "Rome"]);
}

const { embeddings } = await embedMany({ model: gateway.embeddingModel("up/e"), values: ["a", "b"] });
assert.deepEqual(embeddings, [
  [0.5, -1],
  [0.5, -1],
]);

await assert.rejects(generateText(ask("up/bad-request")), (error) => error.statusCode === 400);

const broken = streamText({ ...ask("up/cut"), onError() {} });
const parts = [];
for await (const part of broken.fullStream) parts.push(part.type);
assert.ok(parts.includes("error"), `half an answer was presented as a whole one: ${parts}`);
console.log("ai with @ai-sdk/openai-compatible: whole, streamed, tools, embeddings, errors");
