"""Benchmark files: JSON lines, JSON, Parquet or CSV, plain or gzip, in a folder or on the Hugging Face hub."""

import csv
import gzip
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_mimo.config import UserError


class Missing(UserError):
    """What a task needs is not there; with `skip_missing` the task is left out."""


class MissingFile(Missing):
    """A benchmark's file is not where it was looked for."""


class MissingLibrary(Missing):
    """What grades the task is not installed."""


HUB = "hub:"
FORMS = (".jsonl", ".json", ".parquet", ".csv")


@dataclass(frozen=True)
class Source:
    """One file of a benchmark; `subject` is what its name says beside the split, of a benchmark that is a folder."""

    path: Path
    subject: str = ""


def locate(folder: str, path: str | None, names: tuple[str, ...], task: str, split: str = "test") -> list[Source]:
    """The files of a task: `path` if given (also relative to `folder`), else the first of `names` in `folder`.

    A folder stands for its files of the split (`split_files`). Raises UserError with the names that would do.
    """
    if path is not None and path.startswith(HUB):
        return [Source(download(path.removeprefix(HUB)))]
    tried = [Path(path), Path(folder) / path] if path is not None else candidates(Path(folder), names)
    for candidate in tried:
        if candidate.is_file():
            return [Source(candidate)]
        if candidate.is_dir() and (found := split_files(candidate, split)):
            return found
    wanted = path or " or ".join(f"{name}.jsonl" for name in names)
    raise MissingFile(
        f"task {task}: no {wanted} (a file, or a folder with files of the split `{split}`) in {folder or '.'}: put it "
        "there, or set the task's path"
    )


def candidates(folder: Path, names: tuple[str, ...]) -> list[Path]:
    files = [folder / f"{name}{form}{gz}" for name in names for form in FORMS for gz in ("", ".gz")]
    return [*files, *(folder / name for name in names)]


def split_files(folder: Path, split: str) -> list[Source]:
    """Benchmark files under a folder whose name, or folder's name, is of the split; all where no name is of any split.

    `test.jsonl`, `test2.jsonl`, `law_test.csv`, `test/law.csv` and `law/test-00000-of-00001.parquet` are of `test`.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.name.removesuffix(".gz").endswith(FORMS)]
    named = [(path, *split_and_subject(path, folder)) for path in files if path.is_file()]
    chosen = [(path, subject) for path, name, subject in named if name in SPLITS[split]]
    if not chosen and re.fullmatch(_NAMES, folder.name):
        chosen = [(path, subject) for path, _, subject in named]
    if not chosen and not any(name for _, name, _ in named):
        chosen = [(path, subject) for path, _, subject in named]
    return [Source(path, subject) for path, subject in sorted(chosen, key=natural)]


SPLITS = {"test": ("test",), "val": ("val", "validation"), "dev": ("dev",), "train": ("train",)}
_NAMES = "|".join(name for names in SPLITS.values() for name in names)
_IN_NAME = re.compile(rf"(?:(?P<before>.*)[_.-])?(?P<split>{_NAMES})\d*(?:-\d+-of-\d+)?")


def split_and_subject(path: Path, folder: Path) -> tuple[str, str]:
    """What the names of a file and its folders say: the split ("" for none), and the rest of it."""
    stem = path.name.removesuffix(".gz").rpartition(".")[0]
    folders = path.relative_to(folder).parts[:-1]
    match = _IN_NAME.fullmatch(stem)
    split = match["split"] if match else next((part for part in folders if re.fullmatch(_NAMES, part)), "")
    own = (match["before"] or "") if match else stem
    others = [part for part in folders if not re.fullmatch(_NAMES, part)]
    return split, own or (others[-1] if others else "")


def natural(item: tuple[Path, str]) -> tuple[Any, ...]:
    """`test10` after `test2`."""
    path = item[0]
    parts = re.split(r"(\d+)", str(path.with_name(path.name.partition(".")[0])))
    return tuple((part.isdecimal(), int(part) if part.isdecimal() else part) for part in parts)


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
        return parse_csv(text)
    whole = whole_json(name, text, path)
    if whole is not None:
        numbered = list(enumerate(whole, start=1))
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


def parse_csv(text: str) -> list[dict[str, Any]]:
    """Rows by the names in the first one; without such a row, those of MMLU: question, options, letter."""
    rows = list(csv.reader(io.StringIO(text)))
    letters = "ABCDEFGHIJ"
    is_headerless = rows and all(len(row) == len(rows[0]) > 3 and row[-1] in set(letters) for row in rows if row)
    if not is_headerless:
        return list(csv.DictReader(io.StringIO(text)))
    names = ["question", *letters[: len(rows[0]) - 2], "answer"]
    return [dict(zip(names, row, strict=True)) for row in rows if row]


def whole_json(name: str, text: str, path: Path) -> list[Any] | None:
    """The records of a file that is one JSON value: a list, or an object with a list of `examples` (BBH)."""
    if not name.endswith(".json") or not text.lstrip().startswith(("[", "{")):
        return None
    try:
        whole = json.loads(text)
    except ValueError:
        return parse_json(text, path, 1) if text.lstrip().startswith("[") else None
    if isinstance(whole, dict):
        return next((whole[key] for key in ("examples", "data") if isinstance(whole.get(key), list)), None)
    return whole


def parse_json(text: str, path: Path, number: int) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}, line {number} is not JSON ({error}): mend or remove it") from error
