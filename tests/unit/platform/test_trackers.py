"""Trackers: the libraries' own files where they are installed, their calls where not, faults, and missing packages."""

import json
import math
import struct
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.config import ConfigError
from megatron_mimo.config.run import LoggingConfig
from megatron_mimo.config.trackers import TrackerConfig, TrackerKind
from megatron_mimo.platform import tracker_services, trackers
from megatron_mimo.platform.tracker_services import TrackedRun, flat
from megatron_mimo.platform.trackers import Trackers, check_installed

SETTINGS = {"model": {"num_layers": 2}, "stages": [{"tokens": 512}], "lora": None}
KINDS: list[TrackerKind] = ["wandb", "mlflow", "swanlab"]


def offline(kind: TrackerKind) -> TrackerConfig:
    return TrackerConfig(kind=kind, project="tests", offline=True)


def two_starts(folder: Path, kind: TrackerKind) -> TrackedRun:
    """Steps 1 to 3, a stop, and steps 3 to 5 of the resumed run."""
    run = TrackedRun("tiny", folder, SETTINGS)
    for steps in (range(1, 4), range(3, 6)):
        opened = Trackers([offline(kind)], run)
        for step in steps:
            opened.log({"loss/main": 4.0 / step, "consumed_tokens": 512.0 * step, "bad": math.nan}, step)
        opened.close()
    return run


def wandb_records(path: Path) -> Iterator[bytes]:
    """The records of a `.wandb` file, in LevelDB's log format: blocks of 32 KiB, a head of 7 bytes before each part."""
    content, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def test_mlflow_offline_keeps_one_run_over_two_starts(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    run = two_starts(tmp_path, "mlflow")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'trackers' / 'mlflow' / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert [each.info.run_id for each in found] == [run.identity("mlflow")]
    assert found[0].info.status == "FINISHED" and found[0].info.run_name == "tiny"
    assert found[0].data.params["model.num_layers"] == "2" and found[0].data.params["stages.0.tokens"] == "512"
    history = client.get_metric_history(found[0].info.run_id, "loss/main")
    assert sorted((each.step, each.value) for each in history) == [
        (1, 4.0), (2, 2.0), (3, 4 / 3), (3, 4 / 3), (4, 1.0), (5, 0.8)
    ]  # fmt: skip


def test_wandb_offline_writes_what_it_will_send(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    run = two_starts(tmp_path, "wandb")
    wandb.teardown()  # its background process, which else ends with this one
    rows: list[dict[str, Any]] = []
    identities = set()
    for path in sorted((tmp_path / "trackers" / "wandb").rglob("*.wandb")):
        for data in wandb_records(path):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "run":
                identities.add(record.run.run_id)
            if record.WhichOneof("record_type") == "history":
                items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                rows.append({key: json.loads(value) for key, value in items.items()})
    assert identities == {run.identity("wandb")}
    assert [(row["step"], row["loss/main"], row["consumed_tokens"]) for row in rows] == [
        (step, 4.0 / step, 512.0 * step) for step in (1, 2, 3, 3, 4, 5)
    ]


def test_swanlab_offline_writes_what_it_will_send(tmp_path: Path) -> None:
    pytest.importorskip("swanlab")
    two_starts(tmp_path, "swanlab")
    folders = [path for path in (tmp_path / "trackers" / "swanlab").iterdir() if path.is_dir()]
    assert len(folders) == 2, "an offline folder for each start, as its synchronization wants them"
    for folder in folders:
        content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
        assert b"loss/main" in content and b"consumed_tokens" in content


class Recorder:
    """The three libraries at their boundary, as far as they are used; every call is kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        wandb, mlflow, swanlab = (types.ModuleType(name) for name in KINDS)
        entities = types.ModuleType("mlflow.entities")
        self.terminal: Any = None
        wandb.init = lambda **given: self._opened("wandb.init", given) or self
        wandb.Settings = lambda **given: given
        swanlab.init = lambda **given: self._opened("swanlab.init", given)
        swanlab.log = lambda scalars, step: self._called("swanlab.log", scalars=scalars, step=step)
        swanlab.finish = lambda: self._called("swanlab.finish")
        mlflow.MlflowClient = lambda tracking_uri: self._opened("mlflow", {"uri": tracking_uri}) or self
        entities.Metric = lambda *given: given
        entities.Param = lambda *given: given
        for module in (wandb, mlflow, swanlab, entities):
            monkeypatch.setitem(sys.modules, module.__name__, module)

    def _opened(self, name: str, given: dict[str, Any]) -> None:
        self.terminal = (sys.stdin.isatty(), sys.stdin.read())
        self._called(name, **given)

    def _called(self, call: str, /, **given: Any) -> None:
        self.calls.append((call, given))

    def define_metric(self, name: str, step_metric: str) -> None:
        self._called("define_metric", name=name, step_metric=step_metric)

    def log(self, scalars: dict[str, float]) -> None:
        self._called("wandb.log", scalars=scalars)

    def finish(self) -> None:
        self._called("wandb.finish")

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, name: str) -> str:
        return "experiment"

    def create_run(self, experiment: str, run_name: str) -> Any:
        self._called("create_run", experiment=experiment, run_name=run_name)
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="run-1"))

    def update_run(self, run: str, status: str) -> None:
        self._called("update_run", run=run, status=status)

    def log_batch(self, run: str, metrics: Any = (), params: Any = ()) -> None:
        self._called("log_batch", run=run, metrics=list(metrics), params=list(params))

    def set_terminated(self, run: str) -> None:
        self._called("set_terminated", run=run)

    def of(self, name: str) -> list[dict[str, Any]]:
        return [given for called, given in self.calls if called == name]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(monkeypatch)


def test_wandb_is_continued_and_draws_over_steps(recorder: Recorder, tmp_path: Path) -> None:
    run = two_starts(tmp_path, "wandb")
    first, second = recorder.of("wandb.init")
    assert first["id"] == second["id"] == run.identity("wandb")
    assert (first["mode"], first["resume"], first["project"], first["name"]) == ("offline", "allow", "tests", "tiny")
    assert first["config"] == SETTINGS and first["dir"] == str(tmp_path / "trackers" / "wandb")
    assert recorder.of("define_metric")[0] == {"name": "*", "step_metric": "step"}
    assert [given["scalars"]["step"] for given in recorder.of("wandb.log")] == [1, 2, 3, 3, 4, 5]
    assert len(recorder.of("wandb.finish")) == 2


def test_mlflow_gets_parameters_once_and_metrics_by_step(recorder: Recorder, tmp_path: Path) -> None:
    two_starts(tmp_path, "mlflow")
    assert {given["uri"] for given in recorder.of("mlflow")} == {f"sqlite:///{tmp_path}/trackers/mlflow/mlflow.db"}
    assert recorder.of("create_run") == [{"experiment": "experiment", "run_name": "tiny"}]
    batches = recorder.of("log_batch")
    assert batches[0]["params"] == [("model.num_layers", "2"), ("stages.0.tokens", "512"), ("lora", "None")]
    steps = [metrics[0][3] for batch in batches[1:] if (metrics := batch["metrics"])]
    assert steps == [1, 2, 3, 3, 4, 5]
    assert [given["status"] for given in recorder.of("update_run")] == ["RUNNING", "RUNNING"]
    assert recorder.of("set_terminated") == [{"run": "run-1"}] * 2


def test_mlflow_online_needs_a_server(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Trackers([TrackerConfig(kind="mlflow")], TrackedRun("tiny", tmp_path, {}))
    assert "MLFLOW_TRACKING_URI is not set" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    Trackers([TrackerConfig(kind="mlflow")], TrackedRun("tiny", tmp_path, {}))
    assert recorder.of("mlflow")[-1] == {"uri": "http://tracker:5000"}


def test_swanlab_is_continued_online_alone(recorder: Recorder, tmp_path: Path) -> None:
    run = two_starts(tmp_path / "offline", "swanlab")
    assert all(given["mode"] == "offline" and "id" not in given for given in recorder.of("swanlab.init"))
    assert all("bad" not in given["scalars"] for given in recorder.of("swanlab.log")), "no value that is not finite"
    online = TrackedRun("tiny", tmp_path / "online", SETTINGS)
    for _ in range(2):
        Trackers([TrackerConfig(kind="swanlab")], online).close()
    first, second = recorder.of("swanlab.init")[2:]
    assert first["id"] == second["id"] == online.identity("swanlab") != run.identity("swanlab")
    assert (first["mode"], first["resume"], len(first["id"])) == ("cloud", "allow", 21)


def test_no_library_finds_a_terminal_to_ask_at(recorder: Recorder, tmp_path: Path) -> None:
    before = sys.stdin
    Trackers([offline("wandb")], TrackedRun("tiny", tmp_path, {}))
    assert recorder.terminal == (False, "")
    assert sys.stdin is before


class Failing:
    """A service that opens, takes one step, and is gone."""

    def __init__(self, config: TrackerConfig, run: TrackedRun) -> None:
        self.steps: list[int] = []

    def log(self, scalars: Any, step: int) -> None:
        if self.steps:
            raise ConnectionError("no route to host\nand a long trace")
        self.steps.append(step)

    def finish(self) -> None:
        raise AssertionError("a service that failed is not asked again")


def test_a_service_that_fails_is_reported_once_and_the_others_go_on(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(tracker_services.KINDS, "mlflow", Failing)
    opened = Trackers([offline("mlflow"), offline("wandb")], TrackedRun("tiny", tmp_path, {}))
    for step in range(1, 5):
        opened.log({"loss": 1.0}, step)
    opened.close()
    opened.close()
    said = capsys.readouterr().err
    assert said == "tracker mlflow failed and is left out from here on (ConnectionError: no route to host)\n"
    assert [given["scalars"]["step"] for given in recorder.of("wandb.log")] == [1, 2, 3, 4]
    assert len(recorder.of("wandb.finish")) == 1


def test_a_missing_package_is_refused_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "is_installed", lambda name: name != "swanlab")
    check_installed([offline("wandb"), offline("mlflow")])
    with pytest.raises(ConfigError, match="swanlab.*pip install swanlab"):
        check_installed([offline("wandb"), offline("swanlab")])


def test_a_service_is_named_once() -> None:
    with pytest.raises(ConfigError, match=r"logging.trackers = 'wandb': stands twice"):
        LoggingConfig(trackers=[offline("wandb"), TrackerConfig(kind="wandb", project="other")])


def test_settings_are_flattened_with_the_places_in_lists() -> None:
    assert list(flat({"a": {"b": [1, {"c": None}]}, "d": "x"})) == [("a.b.0", "1"), ("a.b.1.c", "None"), ("d", "x")]
