"""What contest graders import before a solution: `List`, `math`, `inf`, ... RL and evaluation prepare programs here.

LiveCodeBench's runner imports all names of eighteen modules; LeetCode-like starter code takes `List` and `ListNode` as
given. Here only names that stand in the source are imported, which is the same and costs nothing where none does.
"""

import functools
import importlib
import re

MODULES = (
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics", "itertools",
    "functools", "operator", "io", "sys", "json", "builtins", "typing",
)  # fmt: skip
"""All public names of these, later ones over earlier ones, builtins over all but typing; then the modules."""
WORD = re.compile(r"[A-Za-z_]\w*")
NODES = {
    "ListNode": "class ListNode:\n    def __init__(self, val=0, next=None):\n        self.val, self.next = val, next\n",
    "TreeNode": (
        "class TreeNode:\n    def __init__(self, val=0, left=None, right=None):\n"
        "        self.val, self.left, self.right = val, left, right\n"
    ),
}
RECURSION = "import sys\nsys.setrecursionlimit(50000)\n"


def prelude(source: str) -> str:
    """Imports and classes for the names that `source` mentions, whether or not it defines them itself later."""
    words = set(WORD.findall(source))
    lines = [line for name, line in import_lines().items() if name in words]
    return "".join(lines) + "".join(text for name, text in NODES.items() if name in words) + RECURSION


@functools.cache
def import_lines() -> dict[str, str]:
    """Name -> the statement that brings it."""
    lines: dict[str, str] = {}
    for module in MODULES:
        content = importlib.import_module(module)
        names = getattr(content, "__all__", None) or [name for name in vars(content) if not name.startswith("_")]
        for name in names:
            if module == "builtins":
                lines.pop(name, None)
            else:
                lines[name] = f"from {module} import {name}\n"
    return lines | {module: f"import {module}\n" for module in MODULES[:-2]}
