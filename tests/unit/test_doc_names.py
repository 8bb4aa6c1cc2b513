"""Every path, module, name, key, command, option and error message in the documentation exists."""

import ast
import re
from pathlib import Path

import pytest

from support.doc_names import (
    PAGES,
    PLACE,
    missing_names,
    missing_paths,
    missing_places,
    spans,
    unknown_yaml_keys,
    wrong_commands,
)
from support.paths import ROOT

TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_in_the_documentation_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    wrong = {
        "paths": sorted(set(missing_paths(text))),
        "places": sorted(set(missing_places(text))),
        "names and keys": sorted(set(missing_names(text))),
        "commands": sorted(set(wrong_commands(text))),
        "keys in YAML": sorted(set(unknown_yaml_keys(text))),
    }
    assert not any(wrong.values()), {what: names for what, names in wrong.items() if names}


def test_contributors_are_led_through_the_house() -> None:
    """Six walks, each with a handful of places at least."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    walks = re.split(r"^\d\. ", re.findall(r"## Six walks\n(.*?)\n## ", text, re.DOTALL)[0], flags=re.MULTILINE)[1:]
    assert len(walks) == 6
    assert all(len([span for span in spans(walk) if PLACE.match(span)]) >= 8 for walk in walks)


def test_the_check_finds_what_does_not_exist() -> None:
    """Against a page on which every name is wrong."""
    text = """
`training/no_such_file.py`, `FOLDER/none.py`, `vllm_worker.FolderReload`, `megatron_mimo.rl.loop.Nothing`,
`parallel.tensor_parallel`, `COMMAND pretain`, `training/loss.py:none`,
`training/none.py:loss`, `rl/loop.py:RLLoop.none`, `rl/loop.py:RLLoop.fit`

```bash
megatron-mimo pretrain examples/nano/pretrain.yaml --nprocs 2 stages.0.token=1e6
```

```yaml
parallel: {tensor_parallel: 2}
```
"""
    # Other tests look for names in this file.
    program, folder = "megatron-mimo", "benchmarks"
    text = text.replace("FOLDER", folder).replace("COMMAND", program)
    assert set(missing_paths(text)) == {"training/no_such_file.py", f"{folder}/none.py"}
    assert set(missing_places(text)) == {"training/loss.py:none", "training/none.py:loss", "rl/loop.py:RLLoop.none"}
    names = {"vllm_worker.FolderReload", "megatron_mimo.rl.loop.Nothing", "parallel.tensor_parallel"}
    assert set(missing_names(text)) == names
    wrong = {f"{program} pretain", f"{program} pretrain --nprocs", f"{program} pretrain stages.0.token=1e6"}
    assert set(wrong_commands(text)) == wrong
    assert set(unknown_yaml_keys(text)) == {"tensor_parallel"}


def test_error_messages_are_the_programs_own() -> None:
    """Each heading of the troubleshooting page consists of pieces of messages in the sources."""
    headings = re.findall(r"^### `(.+)`$", TROUBLESHOOTING.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(headings) > 30
    spoken = messages()
    pieces = [piece.strip(" ,;:") for heading in headings for piece in heading.split("...")]
    wrong = [piece for piece in pieces if piece and piece not in spoken]
    assert not wrong, wrong


def messages() -> str:
    """All texts in the package and in the scripts, the pieces of one f-string joined by `...`."""
    texts = [path.read_text(encoding="utf-8") for path in ROOT.glob("*/*.sh")]
    for path in (ROOT / "megatron_mimo").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append("...".join(str(p.value) for p in node.values if isinstance(p, ast.Constant)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return " ".join("\n".join(texts).split())
