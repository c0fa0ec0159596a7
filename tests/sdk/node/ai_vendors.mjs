// The AI SDK with the vendors' own providers, each onto providers of other dialects; loops of tools with thinking over
// three strict providers.
import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const apiKey = "any";
const doors = (base) => ({
  anthropic: createAnthropic({ apiKey, baseURL: `${base}/v1` }),
  google: createGoogleGenerativeAI({ apiKey, baseURL: `${base}/v1beta` }),
  openai: createOpenAI({ apiKey, baseURL: `${base}/v1` }).chat,
});
const { anthropic, google, openai } = doors(process.env.ANTHROPIC_BASE_URL);
const strict = doors(process.env.STRICT_BASE_URL);

const get_weather = tool({
  inputSchema: z.object({ city: z.string() }),
  execute: ({ city }) => `sunny in ${city}`,
});

for (const [name, door] of Object.entries({ anthropic, google, openai })) {
  for (const run of [generateText, streamText]) {
    const ask = (model, more = {}) => run({ model: door(model), prompt: "hello", maxRetries: 0, maxOutputTokens: 500, ...more });
    const hello = await ask("up/hello");
    assert.equal(await hello.text, "Hello there!", name);
    assert.equal((await hello.usage).inputTokens, 7, name);
    assert.equal((await hello.usage).outputTokens, 3, name);

    const loop = await ask("up/tools", { tools: { get_weather }, stopWhen: stepCountIs(3) });
    assert.equal(await loop.text, "It is sunny.", name);
    assert.deepEqual((await loop.steps)[0].toolCalls.map((call) => call.input.city), ["Paris", "Rome"], name);

    const claude = await ask("claude/claude-x", { tools: { weather: tool({ inputSchema: z.object({ city: z.string() }) }) } });
    assert.equal(await claude.text, "Hello", name);
    assert.equal((await claude.toolCalls)[0].input.city, "Rome", name);
  }
  const schema = z.object({ city: z.string(), degrees: z.number() });
  const { object } = await generateObject({ model: door("up/parse"), prompt: "where?", schema, maxRetries: 0 });
  assert.deepEqual(object, { city: "Paris", degrees: 21 }, name);

  const asked = { model: door("up/rate-limited"), prompt: "hello", maxRetries: 0 };
  await assert.rejects(generateText(asked), (error) => error.statusCode === 429, name);

  const broken = streamText({ model: door("up/cut"), prompt: "hello", maxRetries: 0, onError() {} });
  const parts = [];
  for await (const part of broken.fullStream) parts.push(part);
  assert.ok(parts.some((part) => part.type === "error"), `${name}: ${JSON.stringify(parts)}`);
}

const tools = {
  weather: tool({ inputSchema: z.object({ city: z.string() }) }),
  now: tool({ inputSchema: z.object({}) }),
};
const thinking = {
  anthropic: { anthropic: { thinking: { type: "enabled", budgetTokens: 2000 } } },
  google: { google: { thinkingConfig: { includeThoughts: true, thinkingBudget: 2000 } } },
  openai: {},
};
const route = ["claude/claude-sonnet-4-5", "gemini/gemini-3-pro", "gpt/gpt-5", "claude/claude-sonnet-4-5", "gemini/gemini-3-pro"];
for (const [name, door] of Object.entries(strict)) {
  for (const run of [generateText, streamText]) {
    const messages = [{ role: "user", content: "What is the weather?" }];
    for (const model of [...route, ...route]) {
      const asked = { model: door(model), tools, messages, maxRetries: 0, maxOutputTokens: 4000 };
      const answer = await run({ ...asked, providerOptions: thinking[name] });
      assert.ok((await answer.text).startsWith(model.split("/")[0]), `${name} ${model}`);
      messages.push(...(await answer.response).messages);
      const calls = await answer.toolCalls;
      if (calls.length === 0) {
        messages.push({ role: "user", content: "And then?" });
        continue;
      }
      assert.deepEqual(calls.map((call) => call.input.city), ["Rome", "Paris", undefined]);
      const content = calls.map(({ toolCallId, toolName }) => {
        return { type: "tool-result", toolCallId, toolName, output: { type: "text", value: "sunny" } };
      });
      messages.push({ role: "tool", content });
    }
  }
}
console.log("ai with @ai-sdk/anthropic, google and openai: whole, streamed, tools, objects, loops over three providers");
