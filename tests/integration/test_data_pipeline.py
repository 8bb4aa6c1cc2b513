"""The data pipeline as a program: killed at any moment, on every executor, over damaged inputs, and the nano corpus."""

import gzip
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from megatron_mimo.data.nano.corpus import embedded_documents
from megatron_mimo.data.pipeline.shards import read_documents, shard_paths
from support.launch import ROOT, Ranks, environment, free_port
from support.needs import needs
from support.patience import patience

pytestmark = pytest.mark.slow

TOOL = ROOT / "tools" / "preprocess_data.py"
PROGRAMS = Path(__file__).parent / "programs"
ONE_NODE = ROOT / "examples" / "slurm" / "one_node.sh"
needs_slurm = pytest.mark.skipif(
    not all(shutil.which(program) for program in ("slurmctld", "slurmd", "munged")),
    reason="needs the Debian packages slurm-wlm and munge",
)


def variables() -> dict[str, str]:
    found = environment()
    return found | {"PYTHONPATH": os.pathsep.join([str(PROGRAMS), found["PYTHONPATH"]])}


def start(*arguments: object, **extra: str) -> Ranks:
    """The program in a forked process; its workers are new interpreters, as always."""
    return Ranks(0, str(TOOL), *map(str, arguments), **variables() | extra)


def run(*arguments: object, expected: int = 0, **extra: str) -> str:
    with start(*arguments, **extra) as program:
        returncode = program.wait(patience(300))
        output = program.stdout + program.stderr
    assert returncode == expected, output
    return output


def write_raw(folder: Path, files: int = 6, lines: int = 60) -> Path:
    folder.mkdir(parents=True)
    for number in range(files):
        texts = [json.dumps({"text": f"file {number} line {i}"}) for i in range(lines)]
        (folder / f"{number}.jsonl.gz").write_bytes(gzip.compress("\n".join(texts).encode(), mtime=0))
    return folder


def write_config(tmp_path: Path, raw: Path, **changes: object) -> Path:
    tree = {
        "output_dir": str(tmp_path / "out"),
        "num_tasks": 6,
        "executor": {"local": {"workers": 2}},
        "stages": [
            {
                "name": "pages",
                "reader": {"kind": "jsonl", "files": [f"{raw}/*"]},
                "steps": [{"step": "data_steps:Slow"}],
            },
            {"name": "mixed", "num_tasks": 2, "steps": [{"step": "data_steps:Slow"}, {"step": "shuffle"}]},
        ],
    }
    path = tmp_path / "data.yaml"
    path.write_text(yaml.safe_dump({"pipeline": tree | changes}))
    return path


def hashes(out: Path) -> dict[str, str]:
    """Every file that the pipeline's data consists of."""
    assert not list(out.rglob("*.tmp")), "unfinished files are left"
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in out.rglob("*.zst")}


def markers(out: Path, stage: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((out / "done" / stage).glob("*.json"))]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raw(tmp_path_factory.mktemp("raw") / "files")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Slurm on this machine; the environment in which its commands find it."""
    folder = tmp_path_factory.mktemp("slurm")
    ports = {"SLURMCTLD_PORT": str(free_port()), "SLURMD_PORT": str(free_port())}
    subprocess.run([str(ONE_NODE), "start", str(folder)], check=True, env=os.environ | ports, timeout=patience(120))
    yield {"SLURM_CONF": str(folder / "slurm.conf")}
    subprocess.run([str(ONE_NODE), "stop", str(folder)], check=True, timeout=patience(60))


@pytest.fixture(scope="module")
def undisturbed(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(write_config(folder, raw))
    found = hashes(folder / "out")
    assert len(found) == 2 * (6 + 2)
    return found


def workers_of(program: Ranks) -> list[psutil.Process]:
    try:
        return [child for child in program.descendants() if "spawn_main" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def wait_for_work(folder: Path) -> None:
    """Until a worker has begun to write a shard."""
    deadline = time.monotonic() + patience(60)
    while not list((folder / "out" / "pages").glob("*.tmp")) and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_moment_and_run_again(raw: Path, undisturbed: dict[str, str], tmp_path: Path, seed: int) -> None:
    """SIGKILL to a worker, or to the program itself, which is started again at once beside its dying workers."""
    config, generator, kills = write_config(tmp_path, raw), random.Random(seed), 0
    for attempt in range(12):
        with start(config) as program:
            while program.poll() is None and attempt < 8:
                if kills == 0:
                    wait_for_work(tmp_path)  # a fast machine is done before a later moment
                else:
                    time.sleep(generator.uniform(0.1, 1.0))
                victims = workers_of(program) if generator.random() < 0.7 else program.ranks
                if victims and program.poll() is None:
                    os.kill(generator.choice(victims).pid, signal.SIGKILL)
                    kills += 1
            returncode = program.wait(patience(120))
            output = program.stdout + program.stderr
        if returncode == 0:
            break
        assert returncode == -signal.SIGKILL or str(config) in output, output
    assert returncode == 0, output
    assert kills >= 1
    assert hashes(tmp_path / "out") == undisturbed


def test_a_killed_worker_is_noticed_and_its_task_repeated(
    raw: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    config = write_config(tmp_path, raw)
    with start(config) as program:
        wait_for_work(tmp_path)
        os.kill(workers_of(program)[0].pid, signal.SIGKILL)
        returncode = program.wait(patience(120))
        output = program.stdout + program.stderr
    assert returncode == 0, output
    assert "SIGKILL" in output and "trying 1 tasks again" in output
    assert hashes(tmp_path / "out") == undisturbed


def test_documents_that_crash_a_worker_are_passed_over(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", files=2, lines=20)
    lines = [json.dumps({"text": text}) for text in ("first", "poison one", "between", "poison two", "last")]
    (raw / "9.jsonl").write_text("\n".join(lines))
    stages = [
        {"name": "pages", "reader": {"kind": "jsonl", "files": [f"{raw}/*"]}, "steps": [{"step": "data_steps:Deadly"}]}
    ]
    config = write_config(tmp_path, raw, stages=stages, num_tasks=3)
    output = run(config)
    assert "SIGSEGV" in output and output.count("passes over") == 2
    counts = [marker["counts"] for marker in markers(tmp_path / "out", "pages")]
    assert sum(count["write/documents"] for count in counts) == 2 * 20 + 3
    faults = [fault for marker in markers(tmp_path / "out", "pages") for fault in marker["faults"]]
    offsets = [len(lines[0]) + 1, sum(len(line) + 1 for line in lines[:3])]
    assert [fault["place"] for fault in faults] == [f"9.jsonl:{offset}" for offset in offsets]
    assert "passes over" not in run(config)


def test_a_task_that_dies_for_no_document_fails_with_the_resume_command(raw: Path, tmp_path: Path) -> None:
    stages = [
        {"name": "pages", "reader": {"kind": "jsonl", "files": [f"{raw}/*"]}, "steps": [{"step": "data_steps:Dies"}]}
    ]
    config = write_config(tmp_path, raw, stages=stages, num_tasks=1)
    output = run(config, expected=2)
    assert "ended with exit code 9" in output
    assert f"-m megatron_mimo data {config}" in output


def test_executors_give_the_same_bytes(raw: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    for name, executor in {"here": {"local": {"workers": 0}}, "one": {"local": {"workers": 1}}}.items():
        run(write_config(tmp_path, raw, output_dir=str(tmp_path / name), executor=executor))
        assert hashes(tmp_path / name) == undisturbed


def test_ray_gives_the_same_bytes(raw: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    needs("ray")
    executor = {"ray": {"num_cpus": 2, "cpus_per_task": 0.5}}
    output = run(write_config(tmp_path, raw, executor=executor))
    assert "pages: 6 of 6 tasks" in output
    assert hashes(tmp_path / "out") == undisturbed


def test_datatrove_runs_our_stages_and_steps(raw: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    needs("datatrove")
    config = write_config(tmp_path, raw)
    program = PROGRAMS / "datatrove_pipeline.py"
    done = subprocess.run(
        [sys.executable, str(program), str(config), str(raw), str(tmp_path)],
        cwd=ROOT,
        env=variables(),
        capture_output=True,
        text=True,
        timeout=patience(300),
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert hashes(tmp_path / "out") == undisturbed
    blocks = json.loads(done.stdout.splitlines()[-1])
    assert len(blocks) == 6 * 54  # of sixty lines, six end with a seven
    assert all(document["metadata"]["length"] == len(document["text"]) for document in blocks)


@needs_slurm
def test_slurm_runs_the_chain_and_what_is_missing(
    raw: Path, undisturbed: dict[str, str], tmp_path: Path, slurm: dict[str, str]
) -> None:
    executor = {"slurm": {"tasks_per_job": 2, "time": "10", "memory_per_cpu": "100M"}}
    config = write_config(tmp_path, raw, executor=executor)

    def submit_and_wait() -> str:
        output = run(config, **slurm)
        deadline = time.monotonic() + patience(300)
        while subprocess.run(["squeue", "--noheader"], env=os.environ | slurm, capture_output=True, text=True).stdout:
            assert time.monotonic() < deadline, output
            time.sleep(0.5)
        return output

    assert "--array=0-2" in submit_and_wait()
    logs = "".join(path.read_text() for path in (tmp_path / "out" / "slurm" / "logs").iterdir())
    assert hashes(tmp_path / "out") == undisturbed, logs
    assert (tmp_path / "out" / "report.html").exists()
    (tmp_path / "out" / "done" / "pages" / "00003.json").unlink()
    (tmp_path / "out" / "pages" / "00003.jsonl.zst").unlink()
    output = submit_and_wait()
    assert "--array=1 " in output and "mixed" not in output
    assert hashes(tmp_path / "out") == undisturbed


def test_one_task_by_hand(raw: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    """What a SLURM array element runs; a stage is not begun before the one in front of it has ended."""
    config = write_config(tmp_path, raw)
    output = run(config, "--tasks", "pages:0-2", expected=2)
    assert "no pipeline has begun" in output
    run(config, "--tasks", "pages:0", expected=2)
    run(write_config(tmp_path, raw, executor={"slurm": {}}), "--dry-run")
    assert not (tmp_path / "out").exists()


def test_damaged_inputs_are_counted_with_their_place_and_the_run_goes_on(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", files=3)
    whole = (raw / "1.jsonl.gz").read_bytes()
    (raw / "1.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (raw / "3.jsonl").write_bytes(
        b'{"text": "caf\xe9"}\n{"text": "' + b"x" * 5000 + b'"}\nnot json\n{"text": "good"}\n'
    )
    stages = [{"name": "pages", "reader": {"kind": "jsonl", "files": [f"{raw}/*"], "max_record_bytes": 1000}}]
    output = run(write_config(tmp_path, raw, stages=stages, num_tasks=4))
    assert "4 faults" in output
    found = markers(tmp_path / "out", "pages")
    assert {marker["counts"]["write/documents"] for marker in found} >= {60, 2}
    places = sorted(fault["place"].rpartition("/")[2] for marker in found for fault in marker["faults"])
    assert places[0].startswith("1.jsonl.gz:")
    assert places[1:] == ["3.jsonl:0", "3.jsonl:17", f"3.jsonl:{17 + 5000 + 13}"]
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Faults: 4" in report and "3.jsonl:17" in report


def warc_member(number: int, body: bytes, kind: str = "text/html") -> bytes:
    http = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n".encode() + body
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://example.org/{number}\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return gzip.compress(head.encode() + http + b"\r\n\r\n", mtime=0)


def encrypted_pdf() -> bytes:
    pdf = pytest.importorskip("fpdf").FPDF()
    pdf.add_page()
    pdf.set_font("helvetica")
    pdf.cell(text="a secret")
    pdf.set_encryption(owner_password="owner", user_password="user")
    return bytes(pdf.output())


def test_a_crawl_full_of_traps_runs_to_its_end(tmp_path: Path) -> None:
    """A corrupt member, a cut file, an oversize page, a nesting bomb, invalid UTF-8 and an encrypted PDF."""
    pytest.importorskip("megatron_mimo.data.extract.extract_step")
    pytest.importorskip("megatron_mimo.data.extract.pdf_step")
    page = "<html><body><main><h1>Page {0}</h1><p>{1}</p></main></body></html>"
    good = [
        page.format(number, f"Words of page {number} that tell it from others. " * 5).encode() for number in range(8)
    ]
    bomb = b"<div>" * 100_000 + b"bottom" + b"</div>" * 100_000
    traps = [
        (bomb, "text/html"),
        (b"x" * 3_000_000, "text/html"),
        (b"<p>caf\xe9 " + b"word " * 50 + b"\xff\xfe", "text/html"),
    ]
    bodies = [(body, "text/html") for body in good] + [*traps, (encrypted_pdf(), "application/pdf")]
    members = [warc_member(number, *one) for number, one in enumerate(bodies)]
    starts = [sum(map(len, members[:number])) for number in range(len(members))]
    data = bytearray(b"".join(members))
    data[starts[2] + 40 : starts[2] + 90] = bytes(50)
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.warc.gz").write_bytes(data)
    (raw / "b.warc.gz").write_bytes(b"".join(warc_member(100 + n, body) for n, body in enumerate(good))[:-100])
    reader = {"kind": "warc", "files": [f"{raw}/*"], "max_record_bytes": 2_000_000}
    stages = [{"name": "pages", "reader": reader, "steps": [{"step": "extract"}, {"step": "extract_pdf"}]}]
    run(write_config(tmp_path, raw, stages=stages, num_tasks=2))
    found = markers(tmp_path / "out", "pages")
    places = {fault["place"].rpartition("/")[2]: fault["error"] for one in found for fault in one["faults"]}
    assert f"a.warc.gz:{starts[2]}" in places  # the corrupt member
    assert "max_record_bytes" in places[f"a.warc.gz:{starts[9]}"]
    assert any(place.startswith("b.warc.gz:") for place in places)  # the cut file
    counts = {name: sum(one["counts"].get(name, 0) for one in found) for one in found for name in one["counts"]}
    texts = [document.text for path in shard_paths(tmp_path / "out" / "pages") for document in read_documents(path)]
    kept = {number for number in range(8) if any(f"Words of page {number} " in text for text in texts)}
    assert kept == set(range(8))  # page 2 from the other file
    assert sum("Words of page" in text for text in texts) in (7 + 7, 7 + 8)
    assert counts["read/not_utf8"] == 1 and any("caf" in text and "word word" in text for text in texts)
    assert counts["extract_pdf/dropped/encrypted"] == 1
    read = sum(one["counts"]["read/documents"] for one in found)
    dropped = sum(number for name, number in counts.items() if "/dropped/" in name)
    assert read == counts["write/documents"] + dropped


def test_nano_corpus_through_the_pipeline(tmp_path: Path) -> None:
    """The quick start's data folder: generated sources as read directly, text and code split without look-alikes."""
    first = run("examples/nano/data.yaml", f"output_dir={tmp_path}/new")
    compare_generated_sources(tmp_path)
    library = list(read_documents(tmp_path / "new" / "pipeline" / "split" / "00000.jsonl.zst"))
    for source in ("text", "code"):
        texts = {document.text for document in embedded_documents(source)}
        mine = [document for document in library if document.source == source]
        assert {document.text for document in mine} <= texts and len(mine) > 0.9 * len(texts)
        held_out = (tmp_path / "new" / "heldout" / "text" / f"{source}.jsonl").read_text().splitlines()
        assert [json.loads(line)["text"] for line in held_out] == [d.text for d in mine if d.split == "valid"]
        assert 0.04 < len(held_out) / len(mine) < 0.14
    words = {document.id: word_shingles(document.text) for document in library}
    valid, train = ([d.id for d in library if d.split == split] for split in ("valid", "train"))
    assert max(len(words[a] & words[b]) / (len(words[a] | words[b]) or 1) for a in valid for b in train) < 0.4
    again = run("examples/nano/data.yaml", f"output_dir={tmp_path}/new")
    assert again.count("done already") == first.count(" of 1 tasks") and "is up to date: kept" in again
    shutil.rmtree(tmp_path)


def compare_generated_sources(tmp_path: Path) -> None:
    """Arithmetic and synthetic data: byte for byte what the embedded sources give with the same tokenizer."""
    domains = {"arithmetic": "math", "synthetic": "synthetic"}
    tree = {
        "output_dir": f"{tmp_path}/old",
        "tokenizer": {"path": f"{tmp_path}/new/tokenizer"},
        "sources": [{"name": name, "domain": domain, "embedded": name} for name, domain in domains.items()],
    }
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(tree))
    run("--config", tmp_path / "old.yaml")
    files = [path.relative_to(tmp_path / "old") for path in (tmp_path / "old").rglob("*") if path.is_file()]
    compared = [name for name in files if name.name != "manifest.json"]
    assert len(compared) >= 8 + 2 + 3
    for name in compared:
        assert (tmp_path / "new" / name).read_bytes() == (tmp_path / "old" / name).read_bytes(), name


def word_shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}
