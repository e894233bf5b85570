"""The examples of docs/COORDINATION.md, in one program, in order."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import distributed

PAGE = Path(distributed.__file__).parent.parent / "docs" / "COORDINATION.md"


def test_the_examples_run(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) >= 9
    body = "\n".join(blocks)
    program = tmp_path / "page.py"
    indented = "\n".join(f"    {line}" if line else "" for line in body.splitlines())
    program.write_text(f'if __name__ == "__main__":\n{indented}\n    print("all ran")\n', encoding="utf-8")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "all ran", done.stderr
