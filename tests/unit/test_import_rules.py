"""The house's import rules: who may use megatron-core, no circles, pure parts stay pure."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "megatron_mimo"
MEGATRON_USERS = {
    "data.indexed_writer",
    "model.build",
    "model.context_parallel",
    "model.engine_attention",
    "model.fp8_layers",
    "model.gpt",
    "model.initialize",
    "model.lora",
    "model.mtp",
    "model.precision",
    "model.spec",
    "model.torch_layers",
    "platform.cpu",
    "rl.logprobs",
    "rl.policy_step",
    "rl.policy_trainer",
    "rl.weight_export",
    "training.batch",
    "training.checkpoint",
    "training.device_checks",
    "training.distributed",
    "training.evaluation",
    "training.feed",
    "training.forecast",
    "training.optimizer",
    "training.probe",
    "training.step",
    "training.trainer",
}
"""The starred modules of the design: everything else is imported, and tested, without megatron-core."""
FORBIDDEN = {
    "config": ("torch", "megatron", "ray", "vllm", "transformers"),
    "convert": ("megatron.core", "ray", "vllm"),
    "data": ("vllm",),
    "eval": ("megatron.core", "ray"),
    "judge": ("torch", "transformers", "megatron.core", "ray", "vllm"),
    "rl/problems": ("torch", "transformers", "megatron.core", "ray", "vllm"),
    "rl/scheduler": ("megatron.core", "ray", "vllm"),
    "reward": ("torch", "transformers", "megatron.core", "ray", "vllm"),
    "serve": ("megatron.core", "ray"),
}
STANDARD_NAMES = {"types", "math", "code", "tokenize", "logging", "random", "queue", "statistics"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, top_level_only: bool) -> set[str]:
    """Dotted names of the modules a file imports; functions' own imports only when asked for."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py") if "remote_code" not in path.parts)


def uses(path: Path, library: str) -> bool:
    return any(name == library or name.startswith(library + ".") for name in imports(path, top_level_only=False))


def test_only_the_named_modules_import_megatron_core() -> None:
    users = {module_name(path) for path in FILES if uses(path, "megatron.core")}
    # model.precision speaks megatron-core's terms without importing it: the list may be wider than the facts.
    assert users <= MEGATRON_USERS, f"not allowed to import megatron.core: {sorted(users - MEGATRON_USERS)}"


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_rooms_do_without(room: str) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        for library in FORBIDDEN[room]:
            if "remote_code" not in path.parts and not (room == "serve" and library == "vllm"):
                assert not uses(path, library), f"{module_name(path)} imports {library}"


def test_no_import_circles() -> None:
    names = {f"megatron_mimo.{module_name(path)}".rstrip("."): path for path in FILES}
    graph = {name: sorted(imports(path, top_level_only=True) & names.keys()) for name, path in names.items()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above[above.index(name) :], name])
        if name not in done:
            for other in graph[name]:
                # A package's __init__ re-exports its own modules.
                if not (above and other == name):
                    visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_rooms_depend_in_one_direction() -> None:
    """A room never imports one to its right."""
    order = ["config", "platform", "judge", "reward", "data", "model", "training", "convert", "serve", "eval", "rl"]
    order += ["pretrain", "sft", "cli"]
    for path in FILES:
        room = module_name(path).split(".")[0]
        if room not in order:
            continue
        for name in imports(path, top_level_only=False):
            parts = name.split(".")
            if parts[0] == "megatron_mimo" and len(parts) > 1 and parts[1] in order:
                assert order.index(parts[1]) <= order.index(room), f"{module_name(path)} imports {name}"


def test_no_module_is_named_after_the_standard_library() -> None:
    assert not [path for path in FILES if path.stem in STANDARD_NAMES]
