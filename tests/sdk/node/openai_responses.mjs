// The OpenAI SDK over Responses: every target here speaks another dialect.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ maxRetries: 0, timeout: 20_000 });
const weather = {
  type: "function",
  name: "get_weather",
  strict: true,
  parameters: {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
    additionalProperties: false,
  },
};

const whole = await client.responses.create({ model: "fast", input: "hello" });
assert.equal(whole.output_text, "Hello there!");
assert.equal(whole.usage.total_tokens, 10);

let text = "";
let next = 0;
for await (const event of await client.responses.create({ model: "fast", input: "hello", stream: true })) {
  assert.equal(event.sequence_number, next++);
  if (event.type === "response.output_text.delta") text += event.delta;
}
assert.equal(text, "Hello there!");

const helper = client.responses.stream({ model: "fast", input: "hello" });
const deltas = [];
helper.on("response.output_text.delta", (event) => deltas.push(event.snapshot));
assert.equal((await helper.finalResponse()).output_text, "Hello there!");
assert.equal(deltas.at(-1), "Hello there!");

const format = zodTextFormat(z.object({ city: z.string(), degrees: z.number() }), "weather");
const parsed = await client.responses.parse({ model: "up/parse", input: "hello", text: { format } });
assert.deepEqual(parsed.output_parsed, { city: "Paris", degrees: 21 });

for (const stream of [false, true]) {
  const ask = { model: "up/tools", tools: [weather] };
  const first = stream
    ? await client.responses.stream({ ...ask, input: "weather?" }).finalResponse()
    : await client.responses.create({ ...ask, input: "weather?" });
  const calls = first.output.filter((item) => item.type === "function_call");
  assert.deepEqual(calls.map((call) => JSON.parse(call.arguments).city), ["Paris", "Rome"]);
  const input = calls.map((call) => ({ type: "function_call_output", call_id: call.call_id, output: "sunny" }));
  const second = await client.responses.create({ ...ask, input, previous_response_id: first.id });
  assert.equal(second.output_text, "It is sunny.");
}

const kept = await client.responses.retrieve(whole.id);
assert.equal(kept.output_text, "Hello there!");
const items = [];
for await (const item of client.responses.inputItems.list(whole.id)) items.push(item);
assert.equal(items[0].content[0].text, "hello");
await client.responses.delete(whole.id);
await assert.rejects(client.responses.retrieve(whole.id), OpenAI.NotFoundError);

await assert.rejects(client.responses.create({ model: "up/bad-request", input: "x" }), OpenAI.BadRequestError);
await assert.rejects(async () => {
  for await (const _ of await client.responses.create({ model: "up/cut", input: "x", stream: true }));
}, OpenAI.APIError);
console.log("openai for Node, responses");
