// The OpenAI SDK for Node: everything that an application of today uses.
import assert from "node:assert/strict";
import OpenAI, { BadRequestError, InternalServerError, NotFoundError, RateLimitError } from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ maxRetries: 0, timeout: 20_000 });
const messages = [{ role: "user", content: "hello" }];
const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      strict: true,
      parameters: {
        type: "object",
        properties: { city: { type: "string" } },
        required: ["city"],
        additionalProperties: false,
      },
    },
  },
];
const Weather = z.object({ city: z.string(), degrees: z.number() });

const stories = {
  async whole() {
    const answer = await client.chat.completions.create({ model: "fast", messages });
    assert.equal(answer.choices[0].message.content, "Hello there!");
    assert.equal(answer.usage.total_tokens, 10);
    assert.ok(answer._request_id);
  },

  async streaming() {
    let text = "";
    const ids = new Set();
    for await (const chunk of await client.chat.completions.create({ model: "fast", messages, stream: true })) {
      text += chunk.choices[0].delta.content ?? "";
      ids.add(chunk.id);
    }
    assert.equal(text, "Hello there!");
    assert.equal(ids.size, 1);
  },

  async "stream helper"() {
    const stream_options = { include_usage: true };
    const stream = client.chat.completions.stream({ model: "fast", messages, stream_options });
    let heard = "";
    stream.on("content", (delta) => (heard += delta));
    const answer = await stream.finalChatCompletion();
    assert.equal(heard, "Hello there!");
    assert.equal(answer.usage.completion_tokens, 3);
  },

  async tools() {
    const whole = await client.chat.completions.create({ model: "up/tools", messages, tools });
    const streamed = await client.chat.completions
      .stream({ model: "up/tools", messages, tools })
      .finalChatCompletion();
    for (const answer of [whole, streamed]) {
      assert.equal(answer.choices[0].finish_reason, "tool_calls");
      const calls = answer.choices[0].message.tool_calls.map((call) => [call.id, call.function.arguments]);
      assert.deepEqual(calls, [
        ["call_1", '{"city":"Paris"}'],
        ["call_2", '{"city":"Rome"}'],
      ]);
    }
  },

  async "run tools"() {
    const runner = client.chat.completions.runTools({
      model: "up/tools",
      messages,
      tools: [
        {
          type: "function",
          function: {
            name: "get_weather",
            parameters: tools[0].function.parameters,
            parse: JSON.parse,
            function: ({ city }) => `sunny in ${city}`,
          },
        },
      ],
    });
    assert.equal(await runner.finalContent(), "It is sunny.");
  },

  async parse() {
    const response_format = zodResponseFormat(Weather, "weather");
    const whole = await client.chat.completions.parse({ model: "up/parse", messages, response_format });
    assert.deepEqual(whole.choices[0].message.parsed, { city: "Paris", degrees: 21 });
    const streamed = await client.chat.completions
      .stream({ model: "up/parse", messages, response_format })
      .finalChatCompletion();
    assert.deepEqual(streamed.choices[0].message.parsed, { city: "Paris", degrees: 21 });
  },

  async embeddings() {
    // The SDK asks for base64 by itself and decodes it.
    const answer = await client.embeddings.create({ model: "up/e", input: ["a", "b"] });
    assert.deepEqual(
      answer.data.map((row) => Array.from(row.embedding)),
      [
        [0.5, -1],
        [0.5, -1],
      ],
    );
    const floats = await client.embeddings.create({ model: "up/e", input: "a", encoding_format: "float" });
    assert.deepEqual(floats.data[0].embedding, [0.5, -1]);
  },

  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assert.ok(ids.includes("fast"), ids);
    assert.equal((await client.models.retrieve("fast")).id, "fast");
  },

  async "raw response"() {
    const { data, response, request_id } = await client.chat.completions
      .create({ model: "fast", messages })
      .withResponse();
    assert.equal(data.choices[0].message.content, "Hello there!");
    assert.equal(response.headers.get("x-tollgate-target"), "up/hello");
    assert.ok(request_id);
  },

  async errors() {
    for (const [model, kind, status] of [
      ["up/bad-request", BadRequestError, 400],
      ["up/gone", NotFoundError, 404],
      ["nothing", NotFoundError, 404],
      ["up/rate-limited", RateLimitError, 429],
      ["up/broken", InternalServerError, 500],
    ]) {
      for (const stream of [false, true]) {
        await assert.rejects(client.chat.completions.create({ model, messages, stream }), (error) => {
          assert.ok(error instanceof kind, `${model}: ${error}`);
          assert.equal(error.status, status);
          assert.equal(typeof error.type, "string");
          assert.ok(error.requestID);
          return true;
        });
      }
    }
  },

  async "a broken stream"() {
    let text = "";
    const read = async () => {
      const stream = await client.chat.completions.create({ model: "up/cut", messages, stream: true });
      for await (const chunk of stream) text += chunk.choices[0].delta.content;
    };
    await assert.rejects(read, OpenAI.APIError);
    assert.equal(text, "half");
  },
};

for (const [name, story] of Object.entries(stories)) {
  try {
    await story();
  } catch (error) {
    console.error(`${name}:`, error);
    process.exit(1);
  }
}
console.log(`openai for Node: ${Object.keys(stories).length} stories`);
