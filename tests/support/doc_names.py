"""What the documentation names: paths, modules and their members, configuration keys, commands and options.

Names are looked for in code only: inline code and fenced blocks. Each finder returns what does not exist.
"""

import ast
import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from megatron_mimo.cli.commands import COMMANDS, OLD_NAMES
from megatron_mimo.config.describe import settings_of
from support.paths import ROOT

PACKAGE = ROOT / "megatron_mimo"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("requirements/*.md")])
FENCE = re.compile(r"^(```+)(\w*)[^\n]*\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
PATH = re.compile(r"(?<![\w/.-])((?:megatron_mimo|benchmarks|examples|tools|tests|requirements|docs)/[\w/.*{},-]*\w)")
MODULE_FILE = re.compile(r"^(?:[a-z]\w*/)*[a-z_]\w*\.py$")
FULL_NAME = re.compile(r"\bmegatron_mimo(?:\.\w+)+")
PLACE = re.compile(r"^((?!my_)[\w/]+\.py):([A-Za-z_]\w*(?:\.\w+)?)$")
DOTTED = re.compile(r"^([a-z]\w*)((?:\.(?:\w+|\*))+)(?:\(.*\))?$")
FILES = re.compile(
    r"\.(py|sh|yaml|json|jsonl|gz|zst|md|html|txt|log|lock|npz|bin|idx|pt|csv|parquet|toml|ngc|so|in|ftz)$"
)
FOREIGN = re.compile(
    r"(torch|os|sys|verl|vllm|megatron|skip|core_algos|algorithm|trainer|actor_rollout_ref|actor|page|result|task|engine)\."
    r"|model\.mtp_layers|reward\.reward_"
)
"""Other programs' names and settings, tensors, and objects in an example."""
FOREIGN_FILES = {"models/mimo.py", "models/mimo_mtp.py", "configs/model_config.py"}  # SGLang's


def blocks(text: str, *languages: str) -> list[str]:
    """Fenced blocks in these languages ("" for none given)."""
    return [body for _, language, body in FENCE.findall(text) if language in languages]


def spans(text: str) -> list[str]:
    """Inline code."""
    return [code.strip() for _, code in SPAN.findall(FENCE.sub("", text))]


def missing_paths(text: str) -> Iterator[str]:
    """Paths of the project, from its root or (inline, `training/loss.py`) from the package."""
    for name in PATH.findall(text):
        choices = re.search(r"\{([\w,]+)\}", name)
        for one in [name.replace(choices[0], part) for part in choices[1].split(",")] if choices else [name]:
            if not any(ROOT.glob(one)) and not one.startswith(("runs/", "docs/zh")):
                yield one
    for name in spans(text):
        if (
            MODULE_FILE.match(name)
            and not name.startswith("my_")
            and name not in FOREIGN_FILES
            and not module_file_exists(name)
        ):
            yield name


def module_file_exists(name: str) -> bool:
    """`training/loss.py`, or a name alone that some file of the project has."""
    if "/" in name:
        return (PACKAGE / name).is_file() or (ROOT / name).is_file()
    return name in file_names()


@functools.cache
def file_names() -> set[str]:
    """Names of all Python files of the package and beside it."""
    folders = (PACKAGE, ROOT / "benchmarks", ROOT / "tools", ROOT / "docs")
    return {path.name for folder in folders for path in folder.rglob("*.py")} | {"setup.py"}


def missing_places(text: str) -> Iterator[str]:
    """Places `file:name` or `file:Class.name`, from the package or from the root."""
    for span in spans(text):
        if found := PLACE.match(span):
            files = [folder / found[1] for folder in (PACKAGE, ROOT) if (folder / found[1]).is_file()]
            if not files or not has_member(files[0], found[2].split(".")):
                yield span


def missing_names(text: str) -> Iterator[str]:
    """`megatron_mimo.a.b.Name` anywhere, and `module.name` in inline code that is no key of a configuration."""
    for name in FULL_NAME.findall(text):
        if not full_name_exists(name):
            yield name
    for span in spans(text):
        found = DOTTED.match(span)
        if found and found[1] != "megatron_mimo" and not is_known(found[1], span.partition("(")[0]):
            yield span


def is_known(first: str, name: str) -> bool:
    """Whether a dotted name is a key, a file, another program's, or a module's member."""
    if FILES.search(name) or FOREIGN.match(name):
        return True
    if any(key.startswith(f"{normal(name)}.") or key.endswith(f".{normal(name)}") for key in keys()):
        return True
    if normal(name) in keys() or any(full_name_exists(f"{room}.{name}") for room in rooms()):
        return True
    return any(has_member(path, name.split(".")[1:]) for path in modules_called(first))


@functools.cache
def rooms() -> list[str]:
    """The package and its folders, as modules."""
    folders = [path.name for path in sorted(PACKAGE.iterdir()) if (path / "__init__.py").is_file()]
    return ["megatron_mimo", *(f"megatron_mimo.{name}" for name in folders)]


def normal(name: str) -> str:
    """A key with `*` for the places in lists."""
    return re.sub(r"\.\d+(?=\.|$)", ".*", name)


@functools.cache
def keys() -> frozenset[str]:
    """The dotted keys of every configuration."""
    return frozenset(key for command in COMMANDS for key in keys_of(command))


@functools.cache
def keys_of(command: str) -> frozenset[str]:
    """The dotted keys of a command's configuration; none where it reads none."""
    module, _, name = COMMANDS[command].config.partition(":")
    if not name:
        return frozenset()
    return frozenset(setting.key for setting in settings_of(getattr(importlib.import_module(module), name)))


def modules_called(name: str) -> list[Path]:
    """Modules and packages of this name, whatever folder they lie in."""
    return [*PACKAGE.rglob(f"{name}.py"), *(path / "__init__.py" for path in PACKAGE.rglob(name) if path.is_dir())]


def full_name_exists(name: str) -> bool:
    """Whether `megatron_mimo.a.b.Name` is a module or something that one defines or imports."""
    folder, parts = PACKAGE, name.split(".")[1:]
    for place, part in enumerate(parts):
        if (folder / part).is_dir():
            folder = folder / part
        elif (folder / f"{part}.py").is_file():
            return has_member(folder / f"{part}.py", parts[place + 1 :])
        else:
            return has_member(folder / "__init__.py", parts[place:])
    return True


def has_member(module: Path, parts: list[str]) -> bool:
    """Whether the module has `Name`, or `Name.attribute`."""
    if not parts:
        return True
    names, classes = members(module)
    if len(parts) == 1:
        return parts[0] in names
    return parts[0] in names and (parts[0] not in classes or parts[1] in classes[parts[0]])


@functools.cache
def members(module: Path) -> tuple[set[str], dict[str, set[str]]]:
    """Names at the top of a module, and the attributes of its classes."""
    names: set[str] = set()
    classes: dict[str, set[str]] = {}
    for node in ast.parse(module.read_text(encoding="utf-8")).body if module.is_file() else []:
        names |= bound(node)
        if isinstance(node, ast.ClassDef):
            classes[node.name] = set().union(*(bound(inner) for inner in node.body))
    return names, classes


def bound(node: ast.stmt) -> set[str]:
    """The names that a statement binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {inner.id for target in targets if target for inner in ast.walk(target) if isinstance(inner, ast.Name)}


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of each line `megatron-mimo COMMAND ...`, comments cut off."""
    code = "\n".join([*blocks(text, "bash", "", "sh"), *spans(text)]).replace("\\\n", " ")
    for line in code.splitlines():
        line = re.split(r"\s+#|\s+\(", line)[0]
        found = re.search(r"(?:^|[\s=])megatron-mimo ([a-z][\w.-]*)(.*)", line)
        if found:
            yield [found[1], *found[2].partition(" -- ")[0].split()]


def wrong_commands(text: str) -> Iterator[str]:
    """Commands that do not exist, their unknown options, and overrides of unknown keys."""
    for command, *words in command_lines(text):
        name = OLD_NAMES.get(command, (command,))[0]
        if name not in COMMANDS:
            yield f"megatron-mimo {command}"
            continue
        for before, word in zip([command, *words], words, strict=False):
            option, key = re.match(r"--[a-z][a-z-]+", word), re.match(r"([a-z]\w*(?:\.\w+)*)=", word)
            if option and option[0] not in options():
                yield f"megatron-mimo {command} {word}"
            if key and not before.startswith("--") and COMMANDS[name].config and normal(key[1]) not in keys_of(name):
                yield f"megatron-mimo {command} {word}"


@functools.cache
def options() -> set[str]:
    """Every option that some program of the project takes."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


def unknown_yaml_keys(text: str) -> Iterator[str]:
    """Keys in YAML blocks that no dataclass of the package has as a field."""
    for block in blocks(text, "yaml"):
        for key in mapping_keys(yaml.safe_load(block)):
            if key not in fields():
                yield key


def mapping_keys(tree: object, above: str = "") -> Iterator[str]:
    """Keys of nested mappings, but for names that a user chooses (labels, sources of a mixture)."""
    if isinstance(tree, list):
        for item in tree:
            yield from mapping_keys(item, above)
    if isinstance(tree, dict):
        for key, value in tree.items():
            is_mixture = above == "sources" and not isinstance(value, dict | list | str)
            if not is_mixture or key == "weight":
                yield key
            yield from mapping_keys(value, key)


@functools.cache
def fields() -> set[str]:
    """Annotated attributes of the package's classes: the fields of all configurations and steps."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    return set(re.findall(r"^    (\w+): ", text, re.MULTILINE)) | {"step", "kind", "base", "from"}
