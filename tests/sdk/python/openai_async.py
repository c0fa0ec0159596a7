"""The OpenAI SDK, asynchronous: many requests at once on one client."""

import asyncio

import openai
from openai import AsyncOpenAI

HELLO = [{"role": "user", "content": "hello"}]


async def whole(client):
    answer = await client.chat.completions.create(model="fast", messages=HELLO)
    assert answer.choices[0].message.content == "Hello there!", answer


async def streaming(client):
    text = ""
    async for chunk in await client.chat.completions.create(model="fast", messages=HELLO, stream=True):
        text += chunk.choices[0].delta.content or ""
    assert text == "Hello there!", text


async def stream_helper(client):
    async with client.chat.completions.stream(model="up/tools", messages=HELLO) as stream:
        async for _ in stream:
            pass
        answer = await stream.get_final_completion()
    assert [call.id for call in answer.choices[0].message.tool_calls] == ["call_1", "call_2"], answer


async def embeddings(client):
    answer = await client.embeddings.create(model="up/e", input="a")
    assert answer.data[0].embedding == [0.5, -1.0], answer


async def errors(client):
    try:
        await client.chat.completions.create(model="up/rate-limited", messages=HELLO)
    except openai.RateLimitError as error:
        assert error.status_code == 429, error
    else:
        raise AssertionError("no error")


async def leaving(client):
    # A client that leaves in the middle of a stream leaves a working connection pool behind.
    stream = await client.chat.completions.create(model="fast", messages=HELLO, stream=True)
    async for _ in stream:
        break
    await stream.close()


async def main():
    async with AsyncOpenAI(max_retries=0, timeout=20) as client:
        stories = [whole, streaming, stream_helper, embeddings, errors, leaving]
        await asyncio.gather(*(story(client) for story in stories * 10))
        print(f"openai {openai.__version__} async: {len(stories)} stories, each ten times at once")


asyncio.run(main())
