"""LangChain on top of the OpenAI SDK: whole, streamed with usage, tools, embeddings."""

from functools import reduce
from operator import add

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


chat = ChatOpenAI(model="fast", max_retries=0, timeout=20, use_responses_api=False)
answer = chat.invoke("hello")
assert answer.content == "Hello there!", answer
assert answer.usage_metadata["input_tokens"] == 7, answer

streaming = ChatOpenAI(model="fast", max_retries=0, timeout=20, stream_usage=True, use_responses_api=False)
whole = reduce(add, streaming.stream("hello"))
assert whole.content == "Hello there!", whole
assert whole.usage_metadata["output_tokens"] == 3, whole

tools = ChatOpenAI(model="up/tools", max_retries=0, use_responses_api=False).bind_tools([get_weather])
for answer in (tools.invoke("hello"), reduce(add, tools.stream("hello"))):
    calls = [(call["name"], call["args"]) for call in answer.tool_calls]
    assert calls == [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})], calls

# Counting tokens would fetch a vocabulary from outside.
vectors = OpenAIEmbeddings(model="up/e", check_embedding_ctx_length=False).embed_documents(["a", "b"])
assert vectors == [[0.5, -1.0]] * 2, vectors
print("langchain-openai: whole, streamed, tools, embeddings")
