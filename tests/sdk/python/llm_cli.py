"""The `llm` command, unchanged, with the gateway's models in its own list."""

import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

MODELS = """
- model_id: tollgate
  model_name: fast
  api_base: {url}
  can_stream: true
- model_id: claude
  model_name: claude/claude-x
  api_base: {url}
  can_stream: true
"""

with tempfile.TemporaryDirectory() as home:
    Path(home, "extra-openai-models.yaml").write_text(MODELS.format(url=os.environ["OPENAI_BASE_URL"]))

    def llm(*arguments):
        command = [sys.executable, "-m", "llm", *arguments]
        env = {**os.environ, "LLM_USER_PATH": home}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)

    for arguments, expected in [
        (["-m", "tollgate", "hello"], "Hello there!"),
        (["-m", "tollgate", "--no-stream", "-s", "be short", "hello"], "Hello there!"),
        (["-m", "claude", "hello"], "Hello"),
    ]:
        run = llm(*arguments)
        assert run.returncode == 0 and run.stdout.strip() == expected, (arguments, run)
print("llm", version("llm"), "ok")
