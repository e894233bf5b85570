"""The examples of the pages in docs/, each page as one program, in order."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import distributed

DOCS = Path(distributed.__file__).parent.parent / "docs"


PAGES = [("CLUSTER", 8), ("COORDINATION", 10), ("INSIGHT", 12), ("PLUGINS", 2), ("SECURITY", 2), ("TASKS", 8)]


@pytest.mark.parametrize(("page", "n_blocks"), PAGES)
def test_the_examples_run(page, n_blocks, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) >= n_blocks
    body = "\n".join(blocks)
    program = tmp_path / "page.py"
    indented = "\n".join(f"    {line}" if line else "" for line in body.splitlines())
    program.write_text(f'if __name__ == "__main__":\n{indented}\n    print("all ran")\n', encoding="utf-8")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert done.stdout.strip().splitlines()[-1:] == ["all ran"], done.stderr
