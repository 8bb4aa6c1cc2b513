"""run.json: what is written is read again, files of version 1 too, and nothing that means something else."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo.config import LoRAConfig, UserError
from megatron_mimo.config.stages import SkippedData
from megatron_mimo.training.checkpoint_record import (
    NewerRecord,
    SourceRecord,
    StageRecord,
    read_record,
    source_records,
    write_record,
)
from megatron_mimo.training.state import Progress
from support.records import MODEL, record

STAGE = {"name": "one", "tokens": 300, "seq_length": 100, "rotary_base": 10_000, "mixture": "one.yaml"}
SPLIT = {"prefix": "web/train", "documents": 3, "tokens": 400, "bytes": 900, "sha256": {"bin": "ab", "idx": "cd"}}
POSITION = {"step": 4, "consumed_tokens": 800, "stage": 1, "samples_in_stage": 0}
VERSION_1 = POSITION | {
    "versions": {"torch": "2.9"},
    "tokenizer_sha256": "ef",
    "data": {"web": {"domain": "web", "train": SPLIT, "valid": SPLIT | {"documents": 1}}},
    "order": {"one": {"web": "1"}, "two": {"web": "1"}},
    "chat_trained": False,
    "backend": "torch",
    "start_mtp_layers": 1,
    "layout": {"tensor_model_parallel_size": 2, "data_parallel_size": 1},
    "device": "cpu",
    "world_size": 2,
    "model": dataclasses.asdict(MODEL),
    "config": {
        "name": "old",
        "seed": 7,
        "precision": {"dtype": "bf16"},
        "start": {"checkpoint": "runs/base", "train": "all"},
        "lora": {"rank": 4, "alpha": 8.0},
        "stages": [
            STAGE | {"ended_after_tokens": 250, "global_batch_size": 8},
            STAGE | {"name": "two", "rotary_base": 640_000},
        ],
        "data": {"path": "data", "tokenizer": "data/tokenizer"},
    },
    "guard": {"losses": [2.5], "judged_steps": 4, "consecutive_events": 0},
}


def write(folder: Path, tree: Any) -> Path:
    (folder / "run.json").write_text(json.dumps(tree))
    return folder


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    full = record(
        progress=Progress(3, 600, 0, 24),
        lora=LoRAConfig(rank=2),
        data={"web": SourceRecord(domain="web", documents=1, tokens=2, content={"sha256": {"bin": "ab"}})},
        order={"one": {"web": "1/3"}},
        skip_data=[SkippedData(after_tokens=100, tokens=5)],
        guard={"losses": [1.25]},
        driver={"prompts": [1, None]},
        config={"name": "unit", "stages": [STAGE]},
        layout={"tensor_model_parallel_size": 2},
        chat_trained=True,
        license="mit",
        hugging_face_vocab_size=380,
    )
    for each in (full, record()):
        write_record(tmp_path, each)
        assert read_record(tmp_path) == each
    tree = json.loads((tmp_path / "run.json").read_text())
    assert (tree["version"], tree["step"]) == (3, 0), "flat, for people and other programs"


def test_version_1_of_training(tmp_path: Path) -> None:
    saved = read_record(write(tmp_path, VERSION_1))
    assert saved.progress == Progress(4, 800, 1, 0)
    assert saved.model == MODEL
    assert [(stage.name, stage.length, stage.rotary_base) for stage in saved.stages] == [
        ("one", 250, 10_000),
        ("two", 300, 640_000),
    ]
    assert saved.last_stage.name == "one", "the second has not seen a step"
    assert (saved.name, saved.seed, saved.dtype, saved.start_checkpoint) == ("old", 7, "bf16", "runs/base")
    assert saved.lora == LoRAConfig(rank=4, alpha=8.0)
    assert (saved.tokenizer_folder, saved.tokenizer_sha256) == ("data/tokenizer", "ef")
    assert saved.data == {"web": SourceRecord(domain="web", documents=3, tokens=400, content=SPLIT)}
    assert saved.order == VERSION_1["order"]
    assert (saved.guard, saved.driver, saved.weights_only) == (VERSION_1["guard"], None, False)
    assert (saved.world_size, saved.layout) == (2, VERSION_1["layout"])
    assert saved.exported_vocab_size == MODEL.vocab_size


def test_the_data_is_what_a_start_today_would_record(tmp_path: Path) -> None:
    """Or a run of version 1 could not go on in the middle of a stage."""
    assert read_record(write(tmp_path, VERSION_1)).data == source_records(VERSION_1["data"])


def test_version_1_of_an_import_and_of_rl(tmp_path: Path) -> None:
    imported = {
        **{"weights_only": True, "imported_from": "/models/x", "hugging_face_vocab_size": 380, "chat_trained": None},
        **{"license": "mit", "model": dataclasses.asdict(MODEL), "guard": {}, "world_size": 0, "layout": {}},
        **{"step": 0, "consumed_tokens": 0, "stage": 0, "samples_in_stage": 0, "tokenizer_sha256": "ef"},
        "config": {"name": "x", "stages": [STAGE | {"tokens": 0}], "data": {"tokenizer": "x"}},
        "versions": {"torch": "2.9"},
    }
    saved = read_record(write(tmp_path, imported))
    assert (saved.weights_only, saved.exported_vocab_size, saved.license) == (True, 380, "mit")
    assert (saved.chat_trained, saved.order, saved.dtype) == (None, None, None)
    rl = VERSION_1 | {"data": {}, "driver": {"scheduler": {"next_launch": 8}}}
    del rl["order"], rl["backend"], rl["device"], rl["start_mtp_layers"]
    saved = read_record(write(tmp_path, rl))
    assert (saved.driver, saved.order, saved.start_mtp_layers) == (rl["driver"], None, None)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ([], "not a complete checkpoint"),
        ({}, "'config' is missing"),
        (VERSION_1 | {"consumed_tokens": "800"}, "consumed_tokens"),
        (VERSION_1 | {"stage": 2}, "stage 2 is not one of its 2 stages"),
        (VERSION_1 | {"model": VERSION_1["model"] | {"num_query_groups": 3}}, "num_query_groups"),
        ({"version": 2} | VERSION_1, "not a run.json of this project"),
    ],
)
def test_what_is_no_record_is_refused(tree: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        read_record(write(tmp_path, tree))


def test_a_later_version_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NewerRecord, match="has version 4, this program reads up to 3"):
        read_record(write(tmp_path, {"version": 4, "all": "new"}))


def test_a_stage_of_a_configuration_is_recorded_with_the_tokens_that_it_took() -> None:
    stage = StageRecord(name="one", seq_length=1, rotary_base=1, tokens=10, ended_after_tokens=4)
    assert (stage.length, dataclasses.replace(stage, ended_after_tokens=None).length) == (4, 10)
