"""What doctor says of a machine that lacks something."""

import json

import pytest

from megatron_mimo.cli import doctor


def test_a_missing_package_names_its_users_and_the_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "LOOKS", (doctor.python, doctor.packages))
    monkeypatch.setattr(doctor, "is_installed", lambda module: module not in ("megatron", "ray"))
    assert doctor.main(["--json"]) == 1
    rows = {row["part"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["megatron-core"]["state"] == rows["ray"]["state"] == "missing"
    assert rows["megatron-core"]["way_out"] and "rl" in rows["ray"]["found"]
    monkeypatch.setattr(doctor, "is_installed", lambda module: module != "ray")
    assert doctor.main([]) == 0, "without Ray all the rest trains"
    assert "missing: ray" in capsys.readouterr().out


def test_this_machine_has_what_the_tests_need(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([]) == 0
    said = capsys.readouterr().out
    assert "megatron-core" in said and "sandbox" in said and "GiB free" in said
