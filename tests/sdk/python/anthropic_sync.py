"""The Anthropic SDK, unchanged: onto a provider of its own dialect and onto one of OpenAI's."""

import anthropic
from anthropic import Anthropic

client = Anthropic(max_retries=0, timeout=20)
HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def calls(message):
    return [(block.name, block.input) for block in message.content if block.type == "tool_use"]


def own_dialect():
    message = client.messages.create(model="claude/claude-x", max_tokens=50, messages=HELLO)
    assert message.content[0].text == "Hello" and message.stop_reason == "tool_use", message
    assert calls(message) == [("weather", {"city": "Rome"})], message
    assert (message.usage.input_tokens, message.usage.output_tokens) == (12, 9), message

    with client.messages.stream(model="claude/claude-x", max_tokens=50, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == "Hello" and calls(final) == [("weather", {"city": "Rome"})], final
    assert (final.usage.cache_read_input_tokens, final.usage.output_tokens) == (30, 9), final

    count = client.messages.count_tokens(model="claude/claude-x", messages=HELLO)
    assert count.input_tokens == 20, count


def translated():
    message = client.messages.create(model="fast", max_tokens=50, messages=HELLO, system="be short")
    assert message.content[0].text == "Hello there!" and message.stop_reason == "end_turn", message
    assert (message.usage.input_tokens, message.usage.output_tokens) == (7, 3), message

    with client.messages.stream(model="fast", max_tokens=50, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == "Hello there!" and final.usage.input_tokens == 7, final
    assert client.messages.count_tokens(model="fast", messages=HELLO).input_tokens > 0


def tool_loop():
    asked = {"model": "up/tools", "max_tokens": 50, "tools": [WEATHER]}
    for streamed in [False, True]:
        if streamed:
            with client.messages.stream(messages=HELLO, **asked) as stream:
                message = stream.get_final_message()
        else:
            message = client.messages.create(messages=HELLO, **asked)
        expected = [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]
        assert calls(message) == expected and message.stop_reason == "tool_use", message
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}
            for block in message.content
            if block.type == "tool_use"
        ]
        turns = HELLO + [
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": results},
        ]
        final = client.messages.create(messages=turns, **asked)
        assert final.content[0].text == "It is sunny.", final


def errors():
    for model, expected in [
        ("up/rate-limited", anthropic.RateLimitError),
        ("up/bad-request", anthropic.BadRequestError),
        ("up/gone", anthropic.NotFoundError),
        ("up/broken", anthropic.InternalServerError),
        ("nowhere/m", anthropic.NotFoundError),
        ("claude/busy", anthropic.InternalServerError),
    ]:
        try:
            client.messages.create(model=model, max_tokens=5, messages=HELLO)
        except expected as error:
            assert error.body["type"] == "error" and error.body["error"]["message"], error.body
        else:
            raise AssertionError(f"{model} was answered")
    for model in ["up/cut", "claude/breaks"]:
        try:
            with client.messages.stream(model=model, max_tokens=5, messages=HELLO) as stream:
                stream.until_done()
        except anthropic.APIStatusError:
            pass
        else:
            raise AssertionError(f"{model} ended well")


for test in [own_dialect, translated, tool_loop, errors]:
    test()
print("anthropic", anthropic.__version__, "ok")
