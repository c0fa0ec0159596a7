"""The OpenAI SDK over Responses: every target here speaks another dialect."""

import json

import openai
from openai import OpenAI
from pydantic import BaseModel

client = OpenAI(max_retries=0, timeout=20)
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class Weather(BaseModel):
    """What `.parse()` gives back."""

    city: str
    degrees: int


def whole():
    answer = client.responses.create(model="fast", input="hello", metadata={"a": "b"})
    assert answer.output_text == "Hello there!", answer
    assert answer.status == "completed" and answer.object == "response", answer
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 3), answer
    assert answer.usage.input_tokens_details.cached_tokens == 0, answer
    assert answer.output[0].content[0].annotations == [] and answer.metadata == {"a": "b"}, answer
    # Nothing is missing that the SDK's own model of a response declares.
    type(answer).model_validate(answer.model_dump(by_alias=True, warnings="error"), strict=False)


def streaming():
    events = list(client.responses.create(model="fast", input="hello", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events))), events
    assert events[0].type == "response.created" and events[-1].type == "response.completed", events
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == "Hello there!" == events[-1].response.output_text, events


def helper():
    with client.responses.stream(model="fast", input="hello") as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert snapshots[-1] == "Hello there!" == final.output_text, snapshots


def structured():
    answer = client.responses.parse(model="up/parse", input="hello", text_format=Weather)
    assert answer.output_parsed == Weather(city="Paris", degrees=21), answer
    with client.responses.stream(model="up/parse", input="hello", text_format=Weather) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_parsed == Weather(city="Paris", degrees=21)


def called(answer):
    calls = [item for item in answer.output if item.type == "function_call"]
    assert [json.loads(call.arguments)["city"] for call in calls] == ["Paris", "Rome"], answer
    return [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls]


def tools_by_items():
    items = [{"role": "user", "content": "weather?"}]
    answer = client.responses.create(model="up/tools", input=items, tools=[WEATHER], store=False)
    items += answer.output
    items += called(answer)
    assert client.responses.create(model="up/tools", input=items, tools=[WEATHER]).output_text == "It is sunny."


def tools_by_id():
    for stream in (False, True):
        ask = {"model": "up/tools", "tools": [WEATHER]}
        if stream:
            with client.responses.stream(input="weather?", **ask) as events:
                names = {event.type for event in events}
                first = events.get_final_response()
            assert "response.function_call_arguments.done" in names, names
        else:
            first = client.responses.create(input="weather?", **ask)
        second = client.responses.create(input=called(first), previous_response_id=first.id, **ask)
        assert second.output_text == "It is sunny." and second.previous_response_id == first.id, second


def kept():
    answer = client.responses.create(model="fast", input="hello")
    assert client.responses.retrieve(answer.id) == answer
    items = client.responses.input_items.list(answer.id).data
    assert [item.content[0].text for item in items] == ["hello"], items
    refused(openai.BadRequestError, lambda: client.responses.cancel(answer.id))
    client.responses.delete(answer.id)
    refused(openai.NotFoundError, lambda: client.responses.retrieve(answer.id))
    gone = refused(
        openai.BadRequestError,
        lambda: client.responses.create(model="fast", input="on", previous_response_id=answer.id),
    )
    assert gone.code == "previous_response_not_found" and gone.param == "previous_response_id", gone.body
    silent = client.responses.create(model="fast", input="hello", store=False)
    refused(openai.NotFoundError, lambda: client.responses.retrieve(silent.id))


def anthropic():
    for stream in (False, True):
        ask = {"model": "claude/claude-x", "input": "hello", "tools": [{**WEATHER, "name": "weather"}]}
        if stream:
            with client.responses.stream(**ask) as events:
                answer = events.get_final_response() if not list(events) else events.get_final_response()
        else:
            answer = client.responses.create(**ask)
        assert answer.output_text == "Hello" and answer.output[-1].type == "function_call", answer
        assert answer.usage.input_tokens_details.cached_tokens == 30, answer


def refused(kind, act):
    try:
        act()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} expected")


def errors():
    error = refused(openai.BadRequestError, lambda: client.responses.create(model="up/bad-request", input="x"))
    assert "never work" in error.message, error
    error = refused(openai.BadRequestError, lambda: client.responses.create(model="fast", input=[{"type": "x"}]))
    assert error.param == "input[0].type", error.body
    error = refused(openai.BadRequestError, lambda: client.responses.create(model="fast", input="x", background=True))
    assert error.param == "background", error.body
    error = refused(openai.RateLimitError, lambda: client.responses.create(model="up/rate-limited", input="x"))
    assert error.response.headers["retry-after"] == "7", error
    refused(openai.NotFoundError, lambda: client.responses.create(model="nobody/knows", input="x"))
    heard = []

    def cut():
        for event in client.responses.create(model="up/cut", input="x", stream=True):
            heard.append(event.type)

    error = refused(openai.APIError, cut)
    assert "response.output_text.delta" in heard and "response.completed" not in heard, heard
    assert error.code == "upstream_truncated", error.body


def counted():
    count = client.responses.input_tokens.count(model="fast", input="hello, how are you?")
    assert count.input_tokens > 3 and count.object == "response.input_tokens", count


for story in (whole, streaming, helper, structured, tools_by_items, tools_by_id, kept, anthropic, errors, counted):
    story()
print("openai", openai.__version__, "responses")
