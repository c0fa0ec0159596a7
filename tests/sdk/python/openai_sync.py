"""The OpenAI SDK, synchronous: everything that an application of today uses."""

import openai
from openai import OpenAI
from pydantic import BaseModel

client = OpenAI(max_retries=0, timeout=20)
HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Weather(BaseModel):
    """What `.parse()` gives back."""

    city: str
    degrees: int


def whole():
    answer = client.chat.completions.create(model="fast", messages=HELLO)
    assert answer.choices[0].message.content == "Hello there!", answer
    assert answer.choices[0].finish_reason == "stop", answer
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 3), answer


def streaming():
    chunks = list(client.chat.completions.create(model="fast", messages=HELLO, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "Hello there!", chunks
    assert all(chunk.usage is None for chunk in chunks), "usage that nobody asked for"
    assert len({chunk.id for chunk in chunks}) == 1, "one answer has one id"

    chunks = list(
        client.chat.completions.create(
            model="fast", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 10, chunks[-1]


def stream_helper():
    with client.chat.completions.stream(model="fast", messages=HELLO) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds and kinds[-1] == "chunk" or "content.done" in kinds, kinds
    assert final.choices[0].message.content == "Hello there!", final


def tools():
    for stream in (False, True):
        if stream:
            with client.chat.completions.stream(model="up/tools", messages=HELLO, tools=[WEATHER]) as events:
                answer = events.until_done().get_final_completion()
        else:
            answer = client.chat.completions.create(model="up/tools", messages=HELLO, tools=[WEATHER])
        choice = answer.choices[0]
        assert choice.finish_reason == "tool_calls", choice
        calls = [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls]
        assert calls == [
            ("call_1", "get_weather", '{"city":"Paris"}'),
            ("call_2", "get_weather", '{"city":"Rome"}'),
        ], calls

    turn = [*HELLO, choice.message.model_dump(exclude_none=True)]
    for call in turn[-1]["tool_calls"]:
        call.pop("index", None)
        call["function"].pop("parsed_arguments", None)
        turn.append({"role": "tool", "tool_call_id": call["id"], "content": "sunny"})
    turn[-3].pop("parsed", None)
    answer = client.chat.completions.create(model="up/tools", messages=turn, tools=[WEATHER])
    assert answer.choices[0].message.content == "It is sunny.", answer


def parse():
    answer = client.chat.completions.parse(model="up/parse", messages=HELLO, response_format=Weather)
    assert answer.choices[0].message.parsed == Weather(city="Paris", degrees=21), answer
    with client.chat.completions.stream(
        model="up/parse", messages=HELLO, response_format=Weather
    ) as stream:
        answer = stream.until_done().get_final_completion()
    assert answer.choices[0].message.parsed == Weather(city="Paris", degrees=21), answer
    answer = client.chat.completions.parse(model="up/tools", messages=HELLO, tools=[WEATHER])
    assert answer.choices[0].message.tool_calls[0].function.parsed_arguments == {"city": "Paris"}, answer


def embeddings():
    # The SDK asks for base64 by itself and decodes it.
    answer = client.embeddings.create(model="up/e", input=["a", "b"])
    assert [row.embedding for row in answer.data] == [[0.5, -1.0]] * 2, answer
    assert answer.usage.prompt_tokens == 4, answer
    answer = client.embeddings.create(model="up/e", input="a", encoding_format="float")
    assert answer.data[0].embedding == [0.5, -1.0], answer


def models():
    ids = [model.id for model in client.models.list()]
    assert "fast" in ids, ids
    assert client.models.retrieve("fast").id == "fast"


def raw_response():
    raw = client.chat.completions.with_raw_response.create(model="fast", messages=HELLO)
    assert raw.headers["x-tollgate-target"] == "up/hello", raw.headers
    assert raw.request_id, raw.headers
    assert raw.parse().choices[0].message.content == "Hello there!"
    with client.chat.completions.with_streaming_response.create(model="fast", messages=HELLO) as raw:
        assert "Hello there!" in "".join(raw.iter_text())


def errors():
    for model, kind, status in [
        ("up/bad-request", openai.BadRequestError, 400),
        ("up/gone", openai.NotFoundError, 404),
        ("nothing", openai.NotFoundError, 404),
        ("up/rate-limited", openai.RateLimitError, 429),
        ("up/broken", openai.InternalServerError, 500),
    ]:
        for stream in (False, True):
            try:
                client.chat.completions.create(model=model, messages=HELLO, stream=stream)
            except kind as error:
                assert error.status_code == status, (model, error)
                assert error.request_id, (model, error)
                assert isinstance(error.body, dict) and error.body["message"], (model, error.body)
                assert isinstance(error.type, str), (model, error.body)
                if status == 429:
                    assert int(error.response.headers["retry-after"]) >= 1, error.response.headers
            else:
                raise AssertionError(f"{model} raised nothing")


def broken_stream():
    got = []
    try:
        for chunk in client.chat.completions.create(model="up/cut", messages=HELLO, stream=True):
            got.append(chunk.choices[0].delta.content)
    except openai.APIError as error:
        assert got == ["half"], got
        assert str(error), error
    else:
        raise AssertionError("half an answer was presented as a whole one")


def retries():
    # The SDK retries a 500 by itself; each try is a request of its own.
    try:
        client.with_options(max_retries=1).chat.completions.create(model="up/broken", messages=HELLO)
    except openai.InternalServerError:
        return
    raise AssertionError("no error")


STORIES = [
    whole,
    streaming,
    stream_helper,
    tools,
    parse,
    embeddings,
    models,
    raw_response,
    errors,
    broken_stream,
    retries,
]
for story in STORIES:
    print(story.__name__, end=" ", flush=True)
    story()
print(f"- openai {openai.__version__}: {len(STORIES)} stories")
