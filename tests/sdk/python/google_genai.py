"""Google's SDK, unchanged: onto providers of OpenAI's, Anthropic's and Google's dialects."""

import os

from google import genai
from google.genai import errors, types
from pydantic import BaseModel


def client_of(url):
    return genai.Client(api_key="any", http_options=types.HttpOptions(base_url=url, timeout=20_000))


client = client_of(os.environ["GEMINI_BASE_URL"])
strict = client_of(os.environ["STRICT_BASE_URL"])


class Place(BaseModel):
    city: str
    degrees: int


def whole_and_streamed():
    for model in ["up/hello", "fast"]:
        answer = client.models.generate_content(model=model, contents="hello")
        assert answer.text == "Hello there!", answer
        assert answer.usage_metadata.prompt_token_count == 7, answer
        assert answer.usage_metadata.candidates_token_count == 3, answer
        chunks = list(client.models.generate_content_stream(model=model, contents="hello"))
        assert "".join(chunk.text or "" for chunk in chunks) == "Hello there!", chunks
        assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP, chunks[-1]
    answer = client.models.generate_content(model="claude/claude-x", contents="hello")
    assert answer.text == "Hello" and answer.function_calls[0].args == {"city": "Rome"}, answer
    assert answer.usage_metadata.cached_content_token_count == 30, answer


def schemas():
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Place)
    answer = client.models.generate_content(model="up/parse", contents="where?", config=config)
    assert answer.parsed == Place(city="Paris", degrees=21), answer


def called_by_itself():
    seen = []

    def get_weather(city: str) -> str:
        """The weather in a city."""
        seen.append(city)
        return "sunny"

    config = types.GenerateContentConfig(tools=[get_weather])
    answer = client.models.generate_content(model="up/tools", contents="hello", config=config)
    assert answer.text == "It is sunny." and seen == ["Paris", "Rome"], (answer, seen)


def embeddings_and_counts():
    rows = client.models.embed_content(model="up/e", contents=["a", "b"]).embeddings
    assert [row.values for row in rows] == [[0.5, -1.0], [0.5, -1.0]], rows
    for model in ["up/hello", "claude/claude-x"]:
        assert client.models.count_tokens(model=model, contents="hello there").total_tokens > 0


def failures():
    for model, code in [("up/rate-limited", 429), ("up/bad-request", 400), ("up/gone", 404), ("claude/busy", 503)]:
        try:
            client.models.generate_content(model=model, contents="hello")
        except errors.APIError as error:
            assert error.code == code and error.message, error
        else:
            raise AssertionError(f"{model} was answered")


def loop_of_tools():
    """A chat that another provider answers at every turn; what comes back is kept by the SDK itself."""
    declared = [
        types.FunctionDeclaration(
            name="weather",
            description="the weather in a city",
            parameters=types.Schema(type="OBJECT", properties={"city": types.Schema(type="STRING")}),
        ),
        types.FunctionDeclaration(name="now"),
    ]
    config = types.GenerateContentConfig(
        system_instruction="be short",
        max_output_tokens=4000,
        tools=[types.Tool(function_declarations=declared)],
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=2000),
    )
    route = ["gemini/gemini-3-pro", "claude/claude-sonnet-4-5", "gpt/gpt-5", "gemini/gemini-3-pro"] * 3
    for streamed in [False, True]:
        history, say = [], "What is the weather?"
        for model in route:
            chat = strict.chats.create(model=model, config=config, history=history)
            if streamed:
                chunks = list(chat.send_message_stream(say))
                parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts or []]
            else:
                parts = chat.send_message(say).candidates[0].content.parts
            name = model.split("/")[0]
            assert "".join(part.text for part in parts if part.text and not part.thought).startswith(name), parts
            calls = [part.function_call for part in parts if part.function_call]
            history = chat.get_history()
            if calls:
                assert [call.args.get("city") for call in calls] == ["Rome", "Paris", None], parts
                say = [
                    types.Part(
                        function_response=types.FunctionResponse(
                            id=call.id, name=call.name, response={"result": "sunny"}
                        )
                    )
                    for call in calls
                ]
            else:
                say = "And then?"


for test in [whole_and_streamed, schemas, called_by_itself, embeddings_and_counts, failures, loop_of_tools]:
    test()
print("google-genai", genai.__version__, "ok")
