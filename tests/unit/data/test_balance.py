"""The mixture solver: closed forms, limits, another solver, explained infeasibility, files that training reads."""

import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_mimo.config import ConfigError, UserError, load
from megatron_mimo.data.balance.buckets import AssignSource, main
from megatron_mimo.data.balance.rounding import UNITS, round_shares
from megatron_mimo.data.balance.solver import solve
from megatron_mimo.data.balance.spec import (
    BalanceSpec,
    SamplingConfig,
    Source,
    SourceTotals,
    StageSpec,
    TargetConfig,
    resolve_sources,
    select,
)
from megatron_mimo.data.balance.write import render, solve_mixture
from megatron_mimo.data.document import Document
from megatron_mimo.data.loading.mixture import read_mixture
from megatron_mimo.data.pipeline.shards import shard_path, write_documents
from megatron_mimo.data.pipeline.step import Task
from megatron_mimo.data.tokens.sources import SourceConfig, source_documents

EXAMPLE = Path(__file__).parents[3] / "examples" / "mimo_7b" / "balance.yaml"


def spec_of(sizes: dict[str, float], *stages: StageSpec, output_dir: str = "", max_epochs: float = 4.0) -> BalanceSpec:
    """Sources labelled by their own names' first letter."""
    sources = [SourceTotals(name=name, tokens=tokens, labels={"kind": name[0]}) for name, tokens in sizes.items()]
    return BalanceSpec(output_dir=output_dir, sources=sources, stages=list(stages), max_epochs=max_epochs)


def shares_of(spec: BalanceSpec) -> np.ndarray:
    return solve(spec)[1]


def test_without_targets_shares_are_sampled_sizes() -> None:
    sampling = [SamplingConfig(where={"kind": "n"}, factor=0.25), SamplingConfig(where={"name": "p"}, factor=2)]
    stage = StageSpec(name="s", tokens=100, sampling=sampling, exclude=[{"kind": "x"}])
    shares = shares_of(spec_of({"n1": 400, "n2": 200, "p": 50, "x": 999}, stage))
    assert shares[0] == pytest.approx([0.4, 0.2, 0.4, 0.0], abs=1e-6)


def test_a_target_scales_its_sources_and_all_others_in_proportion() -> None:
    """The closed form of least relative entropy: one factor inside the group, one outside; steps are 15 % wide."""
    target = TargetConfig(where={"kind": ["m", "c"]}, share=0.7)
    shares = shares_of(
        spec_of({"m": 100, "c": 200, "w": 500, "v": 200}, StageSpec(name="s", tokens=9, targets=[target]))
    )
    assert shares[0, :2].sum() == pytest.approx(0.7, abs=1e-9)
    assert shares[0] == pytest.approx([0.7 / 3, 1.4 / 3, 0.3 * 5 / 7, 0.3 * 2 / 7], rel=0.16)


def test_shares_are_near_the_least_relative_entropy_of_another_solver() -> None:
    """scipy's SLSQP on the smooth problem, with a group target, a floor and an epoch limit."""
    from scipy.optimize import minimize

    sizes = np.array([100.0, 200.0, 500.0, 200.0, 30.0])
    targets = [TargetConfig(where={"kind": ["a", "b"]}, share=0.6), TargetConfig(where={"kind": "e"}, min_share=0.1)]
    spec = spec_of(
        dict(zip("abcde", sizes, strict=True)), StageSpec(name="s", tokens=1000, targets=targets), max_epochs=1.8
    )
    preferred, limits = sizes / sizes.sum(), 1.8 * sizes / 1000
    equal = [lambda w: w.sum() - 1, lambda w: w[:2].sum() - 0.6]
    limits_kept = [*({"type": "eq", "fun": f} for f in equal), {"type": "ineq", "fun": lambda w: limits - w}]
    limits_kept.append({"type": "ineq", "fun": lambda w: w[4] - 0.1})
    with pytest.raises(UserError, match="cannot be met"):  # e has 30 tokens: 5.4 % at 1.8 epochs
        solve(spec)
    spec.sources[4].max_epochs = 4
    limits[4] = 4 * 30 / 1000

    def entropy(w: np.ndarray) -> float:
        return float((w * np.log(np.maximum(w, 1e-12) / preferred)).sum())

    with pytest.raises(UserError, match="at least 60 %"):  # a and b: 54 % at 1.8 epochs
        solve(spec)
    spec.max_epochs, limits[:4] = 2.5, 2.5 * sizes[:4] / 1000
    best = minimize(entropy, preferred, constraints=limits_kept, bounds=[(0, 1)] * 5, options={"maxiter": 500}).x
    shares = shares_of(spec)[0]
    assert shares == pytest.approx(best, abs=0.03)
    assert entropy(shares) == pytest.approx(entropy(best), abs=0.005)


@given(
    sizes=st.lists(st.integers(1, 10**6), min_size=2, max_size=8),
    tokens=st.lists(st.integers(1, 10**6), min_size=1, max_size=3),
    share=st.floats(0, 1),
    max_epochs=st.floats(0.2, 20),
)
@settings(max_examples=60, deadline=None)
def test_limits_hold_or_infeasibility_is_real(
    sizes: list[int], tokens: list[int], share: float, max_epochs: float
) -> None:
    """Sources 0 and 1 shall have `share` of every stage: feasible exactly when both groups have the tokens."""
    group = {f"{'g' if i < 2 else 'h'}{i}": float(size) for i, size in enumerate(sizes)}
    target = TargetConfig(where={"kind": "g"}, share=share)
    stages = [StageSpec(name=str(i), tokens=t, targets=[target]) for i, t in enumerate(tokens)]
    spec = spec_of(group, *stages, max_epochs=max_epochs)
    inside, outside = sum(sizes[:2]) * max_epochs, sum(sizes[2:]) * max_epochs
    needs = [(share * sum(tokens), inside), ((1 - share) * sum(tokens), outside)]
    if any(abs(need - have) < 1e-5 * max(need, have, sum(tokens)) for need, have in needs):
        return  # too near to call
    if any(need > have for need, have in needs):
        with pytest.raises(UserError, match="cannot be met"):
            solve(spec)
        return
    shares = shares_of(spec)
    assert shares.sum(axis=1) == pytest.approx(1)
    assert shares[:, :2].sum(axis=1) == pytest.approx(share, abs=1e-6)
    assert (np.array(tokens) @ shares <= np.array(sizes) * max_epochs * (1 + 1e-6) + 1e-6).all()


def test_infeasible_targets_are_explained_with_numbers_that_work() -> None:
    """m has 100 tokens x 4 epochs = 40 % of 1000; 70 % was asked: 300 tokens lack."""
    stage = StageSpec(name="two", tokens=1000, targets=[TargetConfig(where={"kind": "m"}, share=0.7, tolerance=0.01)])
    spec = spec_of({"m": 100, "w": 5000}, stage)
    with pytest.raises(UserError) as caught:
        solve(spec)
    text = str(caught.value)
    assert "two: at least 69 % of kind m: asked 0.69, possible 0.4: 290 tokens" in text
    assert "give m 72.5 tokens more, or max_epochs 6.9 instead of 4" in text
    stage.targets[0] = TargetConfig(where={"kind": "m"}, share=0.4)
    assert shares_of(spec)[0, 0] == pytest.approx(0.4)
    stage.targets[0] = TargetConfig(where={"kind": "m"}, share=0.69)
    spec.sources[0] = SourceTotals(name="m", tokens=172.5, labels={"kind": "m"})
    assert shares_of(spec)[0, 0] == pytest.approx(0.69)
    spec.sources[0] = SourceTotals(name="m", tokens=100, labels={"kind": "m"}, max_epochs=6.9)
    assert shares_of(spec)[0, 0] == pytest.approx(0.69)


def test_contradictions_and_too_little_data_are_told_apart() -> None:
    targets = [TargetConfig(where={"kind": kind}, min_share=0.6) for kind in "mw"]
    with pytest.raises(UserError, match="targets of a stage exclude each other"):
        solve(spec_of({"m": 1e6, "w": 1e6}, StageSpec(name="s", tokens=10, targets=targets)))
    with pytest.raises(UserError, match=r"the stages take 1K tokens; all sources with all their epochs give 800"):
        solve(spec_of({"m": 100, "w": 100}, StageSpec(name="s", tokens=1000)))


@given(st.lists(st.lists(st.integers(0, 1000), min_size=3, max_size=3).filter(any), min_size=1, max_size=3))
def test_rounded_weights_add_up_and_stay_near(parts: list[list[int]]) -> None:
    shares = np.array(parts, dtype=float)
    shares /= shares.sum(axis=1, keepdims=True)
    stages = [StageSpec(name=str(i), tokens=1000) for i in range(len(parts))]
    used = (shares * 1000).sum(axis=0)
    sources = [Source(str(i), max(1.0, used[i]), {}, 1.0 if used[i] >= 1 else 99.0) for i in range(3)]
    units = round_shares(shares, stages, sources)
    assert (units.sum(axis=1) == UNITS).all()
    assert (abs(units - shares * UNITS) < 3).all()
    assert (units[shares == 0] == 0).all()


def test_example_has_the_reports_shares_and_training_reads_it(tmp_path: Path) -> None:
    spec = load(BalanceSpec, [str(EXAMPLE), f"output_dir={tmp_path}"])
    report = solve_mixture(spec)
    weights = [read_mixture(tmp_path / f"stage{stage}.yaml").weights for stage in (1, 2, 3)]
    assert all(sum(stage.values()) == 1 for stage in weights)
    for stage, found in enumerate(weights, start=1):
        assert read_mixture(EXAMPLE.parent / "mixtures" / f"stage{stage}.yaml").weights == pytest.approx(
            found, abs=0.01
        )
    synthetic = {"synthetic_mathematics", "synthetic_code", "synthetic_writing"}
    assert not synthetic & (set(weights[0]) | set(weights[1]))
    assert float(weights[1]["mathematics"] + weights[1]["code"]) == pytest.approx(0.70, abs=0.001)
    assert float(sum(weights[2][name] for name in synthetic)) == pytest.approx(0.10, abs=0.001)
    sizes = {source.name: source.tokens for source in resolve_sources(spec)}
    natural = {name: size / sum(sizes.values()) for name, size in sizes.items()}
    assert all(weights[0][name] < natural[name] for name in ("web_news", "web_ads_jobs"))
    assert all(weights[0][name] > natural[name] for name in ("web_professional", "books_papers"))
    for source in report["sources"]:
        tokens = sum(Fraction(weights[i].get(source["name"], 0)) * int(s.tokens) for i, s in enumerate(spec.stages))
        assert float(tokens) / source["tokens"] == pytest.approx(source["epochs"])
        assert source["epochs"] <= source["max_epochs"] * 1.001
    assert json.loads((tmp_path / "mixture.json").read_text()) == report
    assert "stage2: domain mathematics/code: 70.0" in render(report)


def test_infeasible_spec_writes_nothing(tmp_path: Path) -> None:
    stage = StageSpec(name="s", tokens=1000, targets=[TargetConfig(where={"kind": "m"}, share=0.9)])
    with pytest.raises(UserError):
        solve_mixture(spec_of({"m": 1, "w": 5000}, stage, output_dir=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_sizes_come_from_a_manifest(data_folder: Path) -> None:
    stage = StageSpec(name="s", tokens=10)
    spec = BalanceSpec(output_dir="", data=str(data_folder), stages=[stage])
    sources = resolve_sources(spec)
    assert {source.name for source in sources} == {"letters", "words", "numbers"}
    assert all(source.tokens > 100 and source.labels == {"domain": "web"} for source in sources)
    named = dataclasses.replace(spec, sources=[SourceTotals(name="poems", labels={"a": 1})])
    with pytest.raises(UserError, match="poems: its number of tokens is unknown"):
        resolve_sources(named)
    with pytest.raises(UserError, match="no source is domain poetry"):
        select(sources, {"domain": "poetry"})


def tagged(identifier: str, domain: str, score: float, kinds: list[str], text: str) -> Document:
    scores = dict.fromkeys(("knowledge_density", "reasoning_depth", "educational_value"), score)
    return Document(identifier, text, metadata={"tags": {"domain": domain, "kinds": kinds, **scores}})


def test_tags_become_sources_of_a_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents = [
        tagged("a", "mathematics", 4, [], "x" * 400), tagged("b", "mathematics", 3, [], "é" * 100),
        tagged("c", "general", 1, ["news"], "y" * 80), tagged("d", "general", 1.5, [], "z" * 40),
        Document("e", "untagged", source="mine"),
    ]  # fmt: skip
    task = Task()
    assigned = list(AssignSource().run(documents, task))
    sources = ["mathematics_high", "mathematics_high", "general_news_low", "general_medium", "mine"]
    assert [document.source for document in assigned] == sources
    assert task.counts["assign_source/mathematics_high"] == 2
    write_documents(shard_path(tmp_path, 0), assigned)
    assert main([str(tmp_path), "2"]) == 0
    text = f"output_dir: {tmp_path}\nstages: [{{name: s, tokens: 10}}]\n" + capsys.readouterr().out
    (tmp_path / "spec.yaml").write_text(text)
    read = {source.name: source for source in resolve_sources(load(BalanceSpec, [str(tmp_path / "spec.yaml")]))}
    assert {name: source.tokens for name, source in read.items()} == {
        "general_medium": 20, "general_news_low": 40, "mathematics_high": 300,
    }  # fmt: skip
    assert read["general_news_low"].labels == {"domain": "general", "content": "news", "quality": "low"}
    chosen = SourceConfig(name="m", domain="mathematics", shards=str(tmp_path), only="mathematics_high", valid_share=0)
    assert [document.id for document in source_documents(chosen)] == ["a", "b"]
    assert main([str(tmp_path / "none")]) == 2


def test_bad_options() -> None:
    for bad in (
        lambda: TargetConfig(where={}),
        lambda: TargetConfig(where={}, share=70),
        lambda: SourceTotals(name="a", tokens=0),
        lambda: SamplingConfig(where={}, factor=-1),
        lambda: BalanceSpec(output_dir="", stages=[StageSpec(name="s", tokens=1)]),
        lambda: spec_of({"a": 1}, StageSpec(name="s", tokens=1), StageSpec(name="s", tokens=1)),
    ):
        with pytest.raises(ConfigError):
            bad()
