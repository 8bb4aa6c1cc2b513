"""The launcher's options and decisions, without starting a rank."""

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from megatron_mimo import pretrain, sft
from megatron_mimo.config import UserError
from megatron_mimo.platform.network import free_port
from megatron_mimo.platform.signals import Stopped
from megatron_mimo.training import elastic
from megatron_mimo.training.elastic_agent import exit_code, how_it_ended
from megatron_mimo.training.launch import COMMAND_VARIABLE, resume_command
from megatron_mimo.training.launch_options import is_free, split_options
from support.tiny import tiny_tree, write_run


@pytest.fixture(autouse=True)
def no_launcher_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "MASTER_PORT", "MASTER_ADDR", "RANK", COMMAND_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What would have been started."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(elastic, "start_ranks", lambda *arguments: calls.append(arguments) or 0)
    return calls


@pytest.fixture
def config(tmp_path: Path) -> str:
    return str(write_run(tmp_path, tiny_tree(tmp_path / "data", tmp_path / "run")))


def test_options_stand_anywhere_among_the_arguments() -> None:
    options, rest = split_options(
        ["a.yaml", "--nproc", "2", "--max_steps=3", "model.num_layers=4", "--max-restarts=1", "--forecast"]
    )
    assert options is not None and (options.nproc, options.max_restarts, options.nnodes) == (2, 1, 1)
    assert rest == ["a.yaml", "--max_steps=3", "model.num_layers=4", "--forecast"]
    assert split_options(["a.yaml", "x=1"]) == (None, ["a.yaml", "x=1"])


def test_torchruns_names_for_several_nodes() -> None:
    options, _ = split_options(
        [
            "a.yaml",
            "--nproc_per_node",
            "8",
            "--nnodes",
            "4",
            "--node_rank",
            "3",
            "--master-addr",
            "node0",
            "--master-port",
            "15001",
        ]
    )
    assert options is not None and options.world_size == 32
    assert (options.node_rank, options.master_addr, options.master_port) == (3, "node0", 15001)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--nproc", "none"], "--nproc none"),
        (["--nproc", "0"], "--nproc 0"),
        (["--nproc"], "expected one argument"),
        (["--nnodes", "2:4", "--nproc", "2"], "invalid int value"),
        (["--nnodes", "2", "--nproc", "2"], "--master-port"),
        (["--nnodes", "2", "--node-rank", "2", "--master-port", "15001"], "--node-rank 2"),
        (["--max-restarts", "-1"], "--max-restarts -1"),
        (["--master-port", "70000"], "between 1 and 65535"),
    ],
)
def test_options_that_cannot_be(arguments: list[str], fragment: str) -> None:
    with pytest.raises(UserError) as refused:
        split_options(["a.yaml", *arguments])
    assert fragment in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_a_port_in_use_is_one_line(
    host: str, config: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as taken:
        taken.bind((host, 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert not is_free(int(port))
        monkeypatch.setenv("MASTER_PORT", port)
        for arguments in (["--nproc", "2", "--master-port", port], ["--nproc", "2"]):
            assert pretrain.main([config, *arguments]) == 2
            (line,) = capsys.readouterr().err.strip().splitlines()
            assert f"port {port} is in use" in line and "--master-port" in line and "MASTER_PORT" in line
    assert is_free(free_port())


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["model.num_layer=6"], "did you mean model.num_layers"),
        (["parallel.tensor_model_parallel_size=3"], "parallel.tensor_model_parallel_size=3"),
        (["stages.0.micro_batch_size=8"], "multiple of micro_batch_size x data-parallel size = 16"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line_and_starts_nothing(
    arguments: list[str], fragment: str, config: str, started: list, capsys: pytest.CaptureFixture
) -> None:
    assert pretrain.main([config, "--nproc", "2", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert fragment in line
    assert not started


def test_the_resume_command_is_what_the_user_typed(config: str, started: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["megatron-mimo pretrain"])
    monkeypatch.setenv(COMMAND_VARIABLE, "put back afterwards")
    assert pretrain.main([config, "--nproc", "2", "name=two words"]) == 0
    ((module, options, rest, requeue),) = started
    assert (module, options.nproc, rest, requeue) == ("megatron_mimo.pretrain", 2, [config, "name=two words"], 85)
    assert resume_command("any", ["thing"]) == f"megatron-mimo pretrain {config} --nproc 2 'name=two words'"


def test_the_resume_command_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["megatron-mimo sft"])
    assert resume_command("megatron_mimo.sft", ["a.yaml", "b=1"]) == "megatron-mimo sft a.yaml b=1"
    monkeypatch.setattr(sys, "argv", ["/somewhere/sft.py"])
    assert resume_command("megatron_mimo.sft", ["a.yaml"]).endswith("-m megatron_mimo.sft a.yaml")


def test_what_needs_no_ranks_starts_none(config: str, started: list, capsys: pytest.CaptureFixture) -> None:
    assert pretrain.main([config, "--nproc", "2", "--print-config"]) == 0
    assert not started and "name: tiny" in capsys.readouterr().out
    assert sft.main([]) == 2 and "--nproc" in capsys.readouterr().out


def test_torchrun_and_the_launcher_are_not_mixed(
    config: str, started: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert pretrain.main([config, "--nproc", "2"]) == 2
    assert "leave torchrun out" in capsys.readouterr().err and not started


@pytest.mark.parametrize(
    ("codes", "stopped_by", "expected", "line"),
    [
        ({0: 2, 1: -15}, None, 2, ""),
        ({0: 1, 1: 86, 2: -15}, None, 86, ""),
        ({0: 85, 1: -15}, signal.SIGINT, 85, ""),
        ({0: 99, 1: -15}, signal.SIGTERM, 99, ""),
        ({0: -2, 1: -2}, signal.SIGINT, 85, "SIGINT: stopped while starting, with nothing to save"),
        ({0: -15, 1: 1}, None, 1, "rank 1 ended with exit code 1; resume with: again"),
        ({0: -15, 1: -9}, None, 137, "rank 1 was killed by SIGKILL (out of memory?); resume with: again"),
        ({0: 1, 1: -15}, signal.SIGINT, 1, "rank 0 ended with exit code 1; resume with: again"),
    ],
)
def test_one_exit_code_for_all_ranks(
    codes: dict[int, int], stopped_by: int | None, expected: int, line: str, capsys: pytest.CaptureFixture
) -> None:
    assert exit_code(codes, stopped_by, (2, 85, 99), "again") == expected
    assert capsys.readouterr().err.strip() == line


def test_how_a_rank_ended() -> None:
    assert how_it_ended({0: -signal.SIGTERM, 3: -signal.SIGSEGV}) == "rank 3 was killed by SIGSEGV"


class Ranks:
    """Stands in for the agent."""

    def __init__(self, are_there: bool) -> None:
        self.are_there, self.got, self.stopped_by = are_there, [], None

    def signal_ranks(self, number: int) -> bool:
        self.got.append(number)
        return self.are_there


def test_signals_are_passed_on_and_the_second_ctrl_c_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    ranks = Ranks(are_there=True)
    elastic._pass_on(ranks, signal.SIGTERM, None)
    elastic._pass_on(ranks, signal.SIGTERM, None)
    assert ranks.got == [signal.SIGTERM] * 2 and not ended
    elastic._pass_on(ranks, signal.SIGINT, None)
    assert ranks.got[2] == signal.SIGKILL and ended == [130]
    with pytest.raises(Stopped, match="SIGINT"):
        elastic._pass_on(Ranks(are_there=False), signal.SIGINT, None)
