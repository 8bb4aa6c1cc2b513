"""The house's import rules: who may use megatron-core, no circles, pure parts stay pure."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "megatron_mimo"
MEGATRON_USERS = {
    "model.build",
    "model.context_parallel",
    "model.engine_attention",
    "model.engine_linear",
    "model.fp8_layers",
    "model.fp8_parameters",
    "model.gpt",
    "model.initialize",
    "model.lora",
    "model.mtp",
    "model.spec",
    "model.torch_layers",
    "platform.cpu",
    "rl.logprobs",
    "rl.policy_step",
    "rl.policy_trainer",
    "rl.weight_export",
    "training.batch",
    "training.checkpoint",
    "training.checkpoint_writers",
    "gpu_checks.device_checks",
    "gpu_checks.device_paths",
    "training.distributed",
    "training.evaluation",
    "training.feed",
    "training.forecast",
    "training.optimizer",
    "training.optimizer_shards",
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
    "plan": ("megatron.core", "transformers", "ray", "vllm"),
    "rl/problems": ("torch", "transformers", "megatron.core", "ray", "vllm"),
    "rl/scheduler": ("megatron.core", "ray", "vllm"),
    "reward": ("torch", "transformers", "megatron.core", "ray", "vllm"),
    "serve": ("megatron.core", "ray"),
}
STANDARD_NAMES = {"types", "math", "code", "tokenize", "logging", "random", "queue", "statistics"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Dotted names of the modules that a file imports anywhere: at its top, in functions, for type checkers alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(PACKAGE.parent).parts[: -node.level] if node.level else ()
            module = ".".join([*package, *filter(None, [node.module])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py") if "remote_code" not in path.parts)


def uses(path: Path, library: str) -> bool:
    return any(name == library or name.startswith(library + ".") for name in imports(path))


def test_only_the_named_modules_import_megatron_core() -> None:
    users = {module_name(path) for path in FILES if uses(path, "megatron.core")}
    assert users <= MEGATRON_USERS, f"not allowed to import megatron.core: {sorted(users - MEGATRON_USERS)}"
    assert users >= MEGATRON_USERS, f"listed, but does not import it: {sorted(MEGATRON_USERS - users)}"


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_rooms_do_without(room: str) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        for library in FORBIDDEN[room]:
            if "remote_code" not in path.parts:
                assert not uses(path, library), f"{module_name(path)} imports {library}"


def test_no_import_circles() -> None:
    """Counting imports inside functions, which hide a circle instead of opening it."""
    names = {f"megatron_mimo.{module_name(path)}".rstrip("."): path for path in FILES}
    graph = {name: sorted(imports(path) & names.keys() - {name}) for name, path in names.items()}
    assert sum(map(len, graph.values())) > 1000, "the rules see the imports"
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above[above.index(name) :], name])
        if name not in done:
            for other in graph[name]:
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_folders_of_a_room_depend_in_one_direction() -> None:
    """With each folder inside a room as one node, imports have no circle: no arrow climbs."""
    names = {f"megatron_mimo.{module_name(path)}".rstrip("."): path for path in FILES}
    graph: dict[str, set[str]] = {}
    for path in FILES:
        below = {folder_of(names[name]) for name in imports(path) & names.keys()} - {folder_of(path)}
        graph.setdefault(folder_of(path), set()).update(below)
    # What imports nothing that is left, or is imported by nothing that is left, is in no circle.
    while free := {name for name, below in graph.items() if not below & graph.keys()} | (
        graph.keys() - set().union(*graph.values())
    ):
        graph = {name: below for name, below in graph.items() if name not in free}
    assert not graph, f"these import each other: {sorted(graph)}"


def folder_of(path: Path) -> str:
    """The folder inside a room that a file lies in, or the file itself where it lies loose in its room."""
    return "/".join(path.relative_to(PACKAGE).parts[:2])


ORDER = [
    "missing",
    "config",
    "platform",
    "record",
    "clients",
    "judge",
    "reward",
    "data",
    "model",
    "plan",
    "training",
    "gpu_checks",
    "convert",
    "serve",
    "eval",
    "rl",
]
ORDER += ["claims", "recipes", "pretrain", "sft", "cli", "__main__"]
"""Rooms and loose modules: none imports one to its right. All may import the package itself, for its version."""


def test_every_room_has_a_place_in_the_order() -> None:
    rooms = {module_name(path).split(".")[0] for path in FILES} - {""}
    assert rooms == set(ORDER)


def test_rooms_depend_in_one_direction() -> None:
    for path in FILES:
        room = module_name(path).split(".")[0]
        for name in imports(path) if room else ():
            parts = name.split(".")
            if parts[0] == "megatron_mimo" and len(parts) > 1 and parts[1] in ORDER:
                assert ORDER.index(parts[1]) <= ORDER.index(room), f"{module_name(path)} imports {name}"


SHARED_NAMES = {
    "Block": "of pages, of PDFs: extraction's own; of a tensor pair",
    "Box": "of pages; of answers",
    "Callback": "of training; of a judged program",
    "Comparison": "of two evaluations; of two answers",
    "Form": "of few-shot prompts; of requests to a server",
    "Head": "of pages; of models",
    "Job": "of Slurm; of an evaluation",
    "Metrics": "of the judge; of training",
    "Progress": "of a pipeline; of a run",
    "RMSNorm": "the reference is written anew on purpose",
    "Score": "of extracted text; of a response",
    "Solution": "of a mixture; of a programming problem",
    "Source": "of a mixture; of evaluation records",
    "SwiGLU": "the reference is written anew on purpose",
    "TooLarge": "of two parsers",
    "Trainer": "of pre-training; what the RL loop expects of one",
    "Verdict": "of extraction; of the judge",
    "Worker": "of a pipeline; of the verifier",
}
"""Public class names that two rooms use, each inside its own; a third of them, or one more name, is confusing."""


def test_classes_have_names_of_their_own() -> None:
    places: dict[str, set[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, set()).add(module_name(path))
    twice = {name: sorted(found) for name, found in places.items() if len(found) > 1}
    new = {name: found for name, found in twice.items() if name not in SHARED_NAMES}
    assert not new, f"choose names that say which is meant: {new}"
    assert set(SHARED_NAMES) <= set(twice), f"not shared any more: {set(SHARED_NAMES) - set(twice)}"


def test_no_module_is_named_after_the_standard_library() -> None:
    assert not [path for path in FILES if path.stem in STANDARD_NAMES]
