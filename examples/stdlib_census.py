"""A census of the standard library: every module is parsed, counted, and the counts are merged in a tree.

Shows ``map``, ``submit`` with futures as arguments, a task that fails, and a task that is retried.
"""

from __future__ import annotations

import ast
import os
import sysconfig
import tempfile
import time
import tokenize
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distributed import Client, Future, as_completed, get_worker

MERGE_WIDTH = 16


def module_files(root: str | None = None, packages: Sequence[str] = ()) -> list[str]:
    """Paths of all modules of the standard library (or of the named packages of it), without site-packages."""
    top = Path(root or sysconfig.get_paths()["stdlib"])
    folders = [top / name for name in packages] or [top]
    files = (p for folder in folders for p in folder.rglob("*.py"))
    return sorted(str(p) for p in files if not {"site-packages", "dist-packages"} & set(p.parts))


def census(path: str) -> dict[str, Any]:
    """Counts for one module: lines, functions, classes, imports, the modules imported, and the longest function.

    Raises ``SyntaxError`` or ``UnicodeDecodeError`` for a file that is not Python of this version.
    """
    began = time.perf_counter()
    with tokenize.open(path) as f:
        source = f.read()
    counts: Counter[str] = Counter(modules=1, lines=source.count("\n"))
    imported: Counter[str] = Counter()
    longest = (0, "")
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            counts["functions"] += 1
            longest = max(longest, ((node.end_lineno or 0) - node.lineno + 1, f"{Path(path).name}:{node.name}"))
        elif isinstance(node, ast.ClassDef):
            counts["classes"] += 1
        elif isinstance(node, ast.Import):
            counts["imports"] += 1
            imported.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            counts["imports"] += 1
            if node.module and not node.level:
                imported[node.module.partition(".")[0]] += 1
    seconds = Counter({worker_name(): time.perf_counter() - began})
    return {
        "counts": counts,
        "imported": imported,
        "longest": longest,
        "tasks": Counter({worker_name(): 1}),
        "s": seconds,
    }


def merge(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The census of several censuses."""
    total: dict[str, Any] = {name: Counter() for name in ("counts", "imported", "tasks", "s")}
    longest = (0, "")
    for part in parts:
        for name in total:
            for key, value in part[name].items():
                total[name][key] += value
        longest = max(longest, part["longest"])
    return total | {"longest": longest}


def worker_name() -> str:
    """Where this runs: the worker's name, or ``here`` outside a cluster."""
    try:
        return f"worker {get_worker().name}"
    except ValueError:
        return "here"


def fails_once(marker: str) -> str:
    """Raises the first time it is called with this marker file, returns the second."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "worked at the second attempt"
    raise OSError("the first attempt always fails")


def tree_merge(client: Client, futures: Sequence[Future]) -> Future:
    """Merge many censuses into one by a tree of tasks whose arguments are futures."""
    level = list(futures)
    while True:
        level = [client.submit(merge, level[i : i + MERGE_WIDTH]) for i in range(0, len(level), MERGE_WIDTH)]
        if len(level) == 1:
            return level[0]


def run(
    client: Client, files: Sequence[str], show: Callable[[list[Future]], object] | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The whole job on a cluster: (census of all modules that parse, {path: error} of those that do not)."""
    futures = client.map(census, files, pure=False)
    path_of = dict(zip((f.key for f in futures), files, strict=True))
    if show is not None:
        show(futures)
    good: list[Future] = []
    bad: dict[str, str] = {}
    for future in as_completed(futures):
        if future.status == "error":
            bad[path_of[future.key]] = repr(future.exception())
        else:
            good.append(future)
    return tree_merge(client, good).result(), bad


def run_plain(files: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The same in this process, without a cluster."""
    good, bad = [], {}
    for path in files:
        try:
            good.append(census(path))
        except (SyntaxError, UnicodeDecodeError, ValueError) as error:
            bad[path] = repr(error)
    return merge(good), bad


def report(client: Client, total: dict[str, Any], bad: dict[str, str]) -> str:
    """The result as text."""
    lines = ["  " + ", ".join(f"{total['counts'][k]:,} {k}" for k in ("modules", "lines", "classes", "functions"))]
    lines.append("  most imported: " + ", ".join(f"{name} {n}" for name, n in total["imported"].most_common(8)))
    lines.append(f"  longest function: {total['longest'][1]} with {total['longest'][0]:,} lines")
    lines.append(f"  {len(bad)} files are not Python of this version; their tasks failed and were put aside:")
    lines += [f"    {Path(path).name}: {error[:90]}" for path, error in sorted(bad.items())[:3]]
    for name in sorted(total["tasks"]):
        lines.append(f"  {name}: {total['tasks'][name]} modules in {total['s'][name]:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        answer = client.submit(fails_once, str(Path(folder) / "marker"), retries=2, pure=False).result()
    lines.append(f"  a task with retries=2 {answer}")
    return "\n".join(lines)
