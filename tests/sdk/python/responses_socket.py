"""Responses over a WebSocket with OpenAI's SDK, unchanged: several responses on one connection, and a refusal."""

import asyncio

import openai
from openai import AsyncOpenAI


async def responses(client):
    async with client.responses.connect() as connection:
        for _ in range(3):
            await connection.response.create(model="talk/gpt-5.2", input="hi", store=False)
            async for event in connection:
                if event.type == "response.completed":
                    assert (event.response.model, event.response.output_text) == ("gpt-5.2", "hi"), event
                    assert event.response.usage.total_tokens == 25, event
                    break
                assert event.type == "response.created", event


async def refused(client):
    async with client.responses.connect() as connection:
        await connection.response.create(model="nobody", input="hi")
        event = await connection.recv()
        assert (event.type, event.status, event.error.code) == ("error", 404, "model_not_found"), event


async def together():
    client = AsyncOpenAI(max_retries=0, timeout=20)
    await responses(client)
    await refused(client)


asyncio.run(together())
print(f"openai {openai.__version__}: responses over a WebSocket")
