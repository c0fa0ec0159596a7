"""The Anthropic SDK, unchanged, in a loop of tools with thinking whose every turn another provider answers.

The providers behind are as strict as the real ones: proofs, ids and roles are checked there.
"""

import os

import anthropic
from anthropic import Anthropic

client = Anthropic(base_url=os.environ["STRICT_BASE_URL"], max_retries=0, timeout=20)
TOOLS = [
    {
        "name": "weather",
        "description": "the weather in a city",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "cache_control": {"type": "ephemeral"},
    },
    {"name": "now", "input_schema": {"type": "object", "properties": {}}},
]
ROUTE = ["claude/claude-sonnet-4-5", "gemini/gemini-3-pro", "gpt/gpt-5", "claude/claude-sonnet-4-5"] * 3


def ask(model, messages, streamed):
    asked = {
        "model": model,
        "max_tokens": 4000,
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "system": [{"type": "text", "text": "be short", "cache_control": {"type": "ephemeral"}}],
        "tools": TOOLS,
        "messages": messages,
    }
    if not streamed:
        return client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        return stream.get_final_message()


for streamed in [False, True]:
    messages = [{"role": "user", "content": "What is the weather?"}]
    for model in ROUTE:
        message = ask(model, messages, streamed)
        name = model.split("/")[0]
        said = "".join(block.text for block in message.content if block.type == "text")
        assert said.startswith(name), message
        if name != "gpt":
            assert any(block.type == "thinking" and block.thinking.startswith(name) for block in message.content), message
        calls = [block for block in message.content if block.type == "tool_use"]
        assert message.stop_reason == ("tool_use" if calls else "end_turn"), message
        messages.append({"role": "assistant", "content": message.content})
        if calls:
            assert [call.input.get("city") for call in calls] == ["Rome", "Paris", None], message
            results = [
                {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "sunny"}]}
                for call in calls
            ]
            messages.append({"role": "user", "content": results})
        else:
            messages.append({"role": "user", "content": "And then?"})
print("anthropic", anthropic.__version__, "ok: a loop of tools over three providers")
