"""Audio, pictures, files and raw requests with the SDKs of OpenAI and Anthropic, unchanged."""

import asyncio
import base64
import io
import os

import anthropic
import openai
from openai import AsyncOpenAI, OpenAI

client = OpenAI(max_retries=0, timeout=20)
ROOT = os.environ["ANTHROPIC_BASE_URL"]
HELLO = [{"role": "user", "content": "hello"}]
SOUND = ("speech.wav", b"RIFF" + bytes(range(256)) * 20, "audio/wav")
HEARD = "The sandbox heard 5124 bytes."


def transcription():
    create = client.audio.transcriptions.create
    answer = create(model="sandbox/echo", file=SOUND)
    assert answer.text == HEARD and answer.usage.type == "tokens", answer
    assert create(model="sandbox/echo", file=SOUND, response_format="text").strip() == HEARD
    assert "-->" in create(model="sandbox/echo", file=SOUND, response_format="srt")
    verbose = create(
        model="sandbox/echo", file=SOUND, response_format="verbose_json", timestamp_granularities=["segment"]
    )
    assert verbose.segments[0].text == HEARD and verbose.usage.seconds == 1, verbose
    events = list(create(model="sandbox/echo", file=SOUND, stream=True))
    assert events[-1].type == "transcript.text.done" and events[-1].text == HEARD, events
    assert "".join(event.delta for event in events[:-1]) == HEARD, events
    assert client.audio.translations.create(model="sandbox/echo", file=SOUND).text == HEARD

    large = ("large.wav", bytes(3_000_000), "audio/wav")
    assert create(model="sandbox/echo", file=large).text == "The sandbox heard 3000000 bytes."
    try:
        create(model="nobody/whisper", file=SOUND)
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error
    else:
        raise AssertionError("a model that nobody has")


def speech():
    spoken = client.audio.speech.create(model="sandbox/echo", voice="alloy", input="one two")
    assert spoken.content.startswith(b"RIFF") and spoken.response.headers["content-type"] == "audio/wav"
    with client.audio.speech.with_streaming_response.create(
        model="sandbox/echo", voice="alloy", input="one two"
    ) as response:
        assert b"".join(response.iter_bytes()) == spoken.content


def images():
    answer = client.images.generate(model="sandbox/echo", prompt="a cat", n=2)
    assert base64.b64decode(answer.data[1].b64_json).startswith(b"\x89PNG"), answer
    assert answer.usage.output_tokens > 0, answer
    events = list(client.images.generate(model="sandbox/echo", prompt="a cat", stream=True, partial_images=1))
    assert [event.type for event in events][-1] == "image_generation.completed", events
    picture = io.BytesIO(base64.b64decode(answer.data[0].b64_json))
    picture.name = "cat.png"
    edited = client.images.edit(model="sandbox/echo", image=picture, prompt="a hat")
    assert edited.data[0].b64_json, edited
    many = client.images.edit(
        model="sandbox/echo", prompt="a hat", image=[("a.png", b"one"), ("b.png", b"two")], stream=True
    )
    assert list(many)[-1].type == "image_edit.completed"


def files():
    made = client.files.create(file=("batch.jsonl", b'{"a":1}\n' * 10), purpose="batch")
    assert (made.id, made.bytes, made.filename) == ("file-1", 80, "batch.jsonl"), made
    assert [file.id for file in client.files.list(purpose="batch")] == ["file-1"]
    assert client.files.retrieve("file-1").id == "file-1"
    assert client.files.content("file-1").read() == b"\x00\x01binary\xff"
    assert client.files.delete("file-1").deleted
    large = client.files.create(file=("large.bin", bytes(5_000_000)), purpose="user_data")
    assert large.bytes == 5_000_000, large


def passthrough():
    raw = OpenAI(base_url=f"{ROOT}/passthrough/up", max_retries=0, timeout=20)
    answer = raw.chat.completions.create(model="hello", messages=HELLO)
    assert answer.choices[0].message.content == "Hello there!", answer
    chunks = list(raw.chat.completions.create(model="hello", messages=HELLO, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello there!", chunks
    assert raw.files.retrieve("file-1").id == "file-1"
    try:
        raw.chat.completions.create(model="rate-limited", messages=HELLO)
    except openai.RateLimitError as error:
        assert error.response.headers["retry-after"] == "7" and "slow down" in str(error), error
    else:
        raise AssertionError("a provider that limits")

    claude = anthropic.Anthropic(base_url=f"{ROOT}/passthrough/claude", max_retries=0, timeout=20)
    message = claude.messages.create(model="claude-x", max_tokens=50, messages=HELLO)
    assert message.content[0].text == "Hello", message
    with claude.messages.stream(model="claude-x", max_tokens=50, messages=HELLO) as stream:
        assert "".join(stream.text_stream) == "Hello"
    try:
        anthropic.Anthropic(base_url=f"{ROOT}/passthrough/nobody", max_retries=0).messages.create(
            model="x", max_tokens=5, messages=HELLO
        )
    except anthropic.NotFoundError as error:
        assert error.body["error"]["type"] == "not_found_error", error.body
    else:
        raise AssertionError("a provider that nobody knows")


async def concurrent():
    together = AsyncOpenAI(max_retries=0, timeout=20)
    create = together.audio.transcriptions.create
    answers = await asyncio.gather(*(create(model="sandbox/echo", file=SOUND) for _ in range(10)))
    assert {answer.text for answer in answers} == {HEARD}


transcription()
speech()
images()
files()
passthrough()
asyncio.run(concurrent())
print(f"openai {openai.__version__}, anthropic {anthropic.__version__}: audio, pictures, files, raw requests")
