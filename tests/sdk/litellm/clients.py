"""LiteLLM as a client, unchanged, by its three routes: each onto a provider of another dialect, too."""

import os
import warnings
from importlib.metadata import version

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
warnings.filterwarnings("ignore")

import litellm  # noqa: E402

litellm.telemetry = False
litellm.suppress_debug_info = True
HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
ROUTES = [
    ("openai/", os.environ["OPENAI_BASE_URL"]),
    ("anthropic/", os.environ["ANTHROPIC_BASE_URL"]),
    ("gemini/", os.environ["GEMINI_BASE_URL"] + "/v1beta"),
]


def ask(route, model, base, **more):
    more = {"messages": HELLO, "max_tokens": 100, **more}
    return litellm.completion(model=route + model, api_base=base, api_key="any", max_retries=0, timeout=20, **more)


for route, base in ROUTES:
    answer = ask(route, "up/hello", base)
    assert answer.choices[0].message.content == "Hello there!", (route, answer)
    assert answer.usage.prompt_tokens == 7 and answer.usage.completion_tokens == 3, (route, answer)

    chunks = list(ask(route, "up/hello", base, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "Hello there!", (route, chunks)

    for streamed in [False, True]:
        answer = ask(route, "up/tools", base, tools=[WEATHER], stream=streamed)
        if streamed:
            answer = litellm.stream_chunk_builder(list(answer), messages=HELLO)
        message = answer.choices[0].message
        assert [call.function.name for call in message.tool_calls] == ["get_weather"] * 2, (route, answer)
        assert answer.choices[0].finish_reason == "tool_calls", (route, answer)
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in message.tool_calls
        ]
        messages = [*HELLO, message.model_dump(), *results]
        final = ask(route, "up/tools", base, tools=[WEATHER], messages=messages)
        assert final.choices[0].message.content == "It is sunny.", (route, final)

    answer = ask(route, "claude/claude-x", base)
    assert answer.choices[0].message.content == "Hello", (route, answer)
    assert answer.usage.prompt_tokens == 42, (route, answer)

    for model, expected in [("up/rate-limited", litellm.RateLimitError), ("up/bad-request", litellm.BadRequestError)]:
        try:
            ask(route, model, base)
        except expected:
            pass
        else:
            raise AssertionError(f"{route}{model} was answered")
print("litellm", version("litellm"), "ok by openai/, anthropic/ and gemini/")
