"""Benchmark files: JSON lines, JSON, Parquet or CSV, plain or gzip, in a folder or on the Hugging Face hub."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError

HUB = "hub:"
FORMS = (".jsonl", ".json", ".parquet", ".csv")


def locate(folder: str, path: str | None, names: tuple[str, ...], task: str) -> Path:
    """The file of a task: `path` if given (also relative to `folder`), else the first of `names` in `folder`.

    Raises UserError with the names that would do.
    """
    if path is not None and path.startswith(HUB):
        return download(path.removeprefix(HUB))
    tried = [Path(path), Path(folder) / path] if path is not None else candidates(Path(folder), names)
    for candidate in tried:
        if candidate.is_file():
            return candidate
    wanted = path or " or ".join(f"{name}.jsonl" for name in names)
    raise UserError(f"task {task}: no {wanted} in {folder or '.'}: put the file there, or set the task's path")


def candidates(folder: Path, names: tuple[str, ...]) -> list[Path]:
    return [folder / f"{name}{form}{gz}" for name in names for form in FORMS for gz in ("", ".gz")]


def download(place: str) -> Path:
    """`OWNER/NAME/path/to/file` of a data set on the hub -> local file; raises UserError where it cannot be had."""
    from huggingface_hub import hf_hub_download

    owner, _, rest = place.partition("/")
    name, _, filename = rest.partition("/")
    if not (owner and name and filename):
        raise UserError(f"cannot read {HUB}{place}: write {HUB}OWNER/NAME/FILE")
    try:
        return Path(hf_hub_download(f"{owner}/{name}", filename, repo_type="dataset"))
    except Exception as error:  # the hub's client raises many kinds
        raise UserError(f"cannot load {filename} of {owner}/{name} from the hub: {error}") from error


def read_records(path: Path) -> list[dict[str, Any]]:
    """All records of a file. Raises UserError naming file and line for what is none, and for a file without any."""
    plain = path.name.removesuffix(".gz")
    try:
        if plain.endswith(".parquet"):
            import pyarrow.parquet

            records = pyarrow.parquet.read_table(path).to_pylist()
        else:
            records = parse(plain, read_text(path), path)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not records:
        raise UserError(f"{path} holds no problems")
    return records


def read_text(path: Path) -> str:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.name.endswith(".gz") else content).decode("utf-8-sig")


def parse(name: str, text: str, path: Path) -> list[dict[str, Any]]:
    if name.endswith(".csv"):
        return list(csv.DictReader(io.StringIO(text)))
    if name.endswith(".json") and text.lstrip().startswith("["):
        numbered = list(enumerate(parse_json(text, path, 1), start=1))
    else:
        # Not splitlines: U+2028 and the like may stand inside a JSON string.
        numbered = [
            (number, parse_json(line, path, number))
            for number, line in enumerate(text.split("\n"), start=1)
            if line.strip()
        ]
    for number, record in numbered:
        if not isinstance(record, dict):
            raise UserError(f"{path}, record {number} is no JSON object")
    return [record for _, record in numbered]


def parse_json(text: str, path: Path, number: int) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}, line {number} is not JSON ({error}): mend or remove it") from error
