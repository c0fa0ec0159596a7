// Audio, pictures, files and raw requests with OpenAI's SDK, whose forms come in chunks of unknown length.

import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ maxRetries: 0, timeout: 20_000 });
const sound = () => toFile(Buffer.alloc(5_000, 7), "speech.wav");

const heard = await client.audio.transcriptions.create({ model: "sandbox/echo", file: await sound() });
assert.equal(heard.text, "The sandbox heard 5000 bytes.");
const large = await toFile(Buffer.alloc(3_000_000, 7), "large.wav");
const more = await client.audio.transcriptions.create({ file: large, model: "sandbox/echo", language: "de" });
assert.equal(more.text, "The sandbox heard 3000000 bytes.");
const events = await client.audio.transcriptions.create({ model: "sandbox/echo", file: await sound(), stream: true });
let text = "";
for await (const event of events) {
  if (event.type === "transcript.text.delta") text += event.delta;
}
assert.equal(text, heard.text);

const speech = await client.audio.speech.create({ model: "sandbox/echo", voice: "alloy", input: "one two" });
assert.equal(Buffer.from(await speech.arrayBuffer()).subarray(0, 4).toString(), "RIFF");

const made = await client.images.generate({ model: "sandbox/echo", prompt: "a cat" });
const picture = Buffer.from(made.data[0].b64_json, "base64");
assert.equal(picture.subarray(1, 4).toString(), "PNG");
const edited = await client.images.edit({
  model: "sandbox/echo",
  image: await toFile(picture, "cat.png", { type: "image/png" }),
  prompt: "a hat",
});
assert.ok(edited.data[0].b64_json);

const file = await client.files.create({ file: await toFile(Buffer.alloc(2_000_000), "a.bin"), purpose: "user_data" });
assert.equal(file.bytes, 2_000_000);
assert.equal((await client.files.delete("file-1")).deleted, true);
const content = await client.files.content("file-1");
assert.deepEqual([...Buffer.from(await content.arrayBuffer())], [0, 1, ...Buffer.from("binary"), 255]);

const raw = new OpenAI({ baseURL: `${process.env.ANTHROPIC_BASE_URL}/passthrough/up`, maxRetries: 0 });
const chat = await raw.chat.completions.create({ model: "hello", messages: [{ role: "user", content: "hello" }] });
assert.equal(chat.choices[0].message.content, "Hello there!");

console.log("audio, pictures, files, raw requests");
