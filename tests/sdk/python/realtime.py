"""Realtime conversations with OpenAI's SDK, unchanged: both clients, sound, usage, refusals, an end by the provider."""

import asyncio
import base64
import os

import openai
import websockets
from openai import AsyncOpenAI, OpenAI


async def converse(client):
    async with client.realtime.connect(model="talk/gpt-realtime") as conversation:
        assert (await conversation.recv()).type == "session.created"
        sound = base64.b64encode(os.urandom(500_000)).decode()
        for _ in range(4):
            await conversation.input_audio_buffer.append(audio=sound)
            echo = await conversation.recv()
            assert echo.type == "input_audio_buffer.append" and echo.audio == sound, echo.type
        await conversation.response.create()
        async for event in conversation:
            if event.type == "response.done":
                assert event.response.usage.total_tokens == 30, event
                break


async def refused(client):
    try:
        async with client.realtime.connect(model="nobody"):
            raise AssertionError("a model that nobody has")
    except websockets.exceptions.InvalidStatus as error:
        assert error.response.status_code == 404, error


async def ended(client):
    async with client.realtime.connect(model="talk/gpt-realtime") as conversation:
        await conversation.recv()
        await conversation.send({"type": "close"})
        try:
            await conversation.recv()
        except websockets.exceptions.ConnectionClosed as error:
            assert (error.rcvd.code, error.rcvd.reason) == (4000, "enough"), error
        else:
            raise AssertionError("the provider closed")


async def together():
    client = AsyncOpenAI(max_retries=0, timeout=20)
    await asyncio.gather(*(converse(client) for _ in range(5)))
    await refused(client)
    await ended(client)


asyncio.run(together())
with OpenAI(max_retries=0, timeout=20).realtime.connect(model="talk/gpt-realtime") as alone:
    assert alone.recv().type == "session.created"
print(f"openai {openai.__version__}, websockets {websockets.__version__}: realtime conversations")
