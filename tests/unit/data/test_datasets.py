"""The global order of samples: every token once per epoch, the same for any number of ranks, workers and processes."""

import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from megatron_mimo.config import DataConfig
from megatron_mimo.data.loading.datasets import ShuffledSource, build_stage_dataset, build_validation_datasets
from megatron_mimo.data.loading.loader import build_loader
from megatron_mimo.data.loading.permutation import Permutation
from megatron_mimo.data.tokens.indexed import TokenStream, map_tokens
from megatron_mimo.data.tokens.tokenizer import load_tokenizer

S = 16
MIXTURE = "sources: {letters: 0.5, words: 0.3, numbers: 0.2}"


@pytest.fixture
def stream(tmp_path: Path) -> TokenStream:
    """The numbers 0..999 as tokens: every token tells its place."""
    np.arange(1000, dtype=np.uint16).tofile(tmp_path / "x.bin")
    return TokenStream([map_tokens(tmp_path / "x", np.dtype(np.uint16))])


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 1000, 4097])
def test_permutation_visits_everything_once(size: int) -> None:
    permutation = Permutation(size, "key")
    assert sorted(permutation[i] for i in range(size)) == list(range(size))
    with pytest.raises(IndexError):
        permutation[size]


def test_permutation_is_random() -> None:
    """Displacements of a random permutation average n/3; two keys agree in about one place."""
    size = 10_000
    first, second = ([Permutation(size, key)[i] for i in range(size)] for key in ("a", "b"))
    assert abs(np.abs(np.array(first) - np.arange(size)).mean() / size - 1 / 3) < 0.01
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.05
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 10


def test_an_epoch_reads_every_token_once(stream: TokenStream) -> None:
    source = ShuffledSource(stream, seq_length=8, key="k")
    assert source.samples_per_epoch == 125
    for epoch in range(3):
        samples = [source[epoch * 125 + i] for i in range(125)]
        assert sorted(int(token) for sample in samples for token in sample[:-1]) == list(range(1000))
        assert all(np.array_equal(sample, (sample[0] + np.arange(9)) % 1000) for sample in samples)
    starts = [[int(source[epoch * 125 + i][0]) for i in range(125)] for epoch in range(2)]
    assert starts[0] != starts[1]
    assert starts[0] != sorted(starts[0])


def test_leftover_is_shorter_than_a_sequence(stream: TokenStream) -> None:
    source = ShuffledSource(stream, seq_length=300, key="k")
    read = Counter(int(token) for i in range(source.samples_per_epoch) for token in source[i][:-1])
    assert max(read.values()) == 1
    assert len(read) == 900


def test_source_shorter_than_a_sequence_repeats(stream: TokenStream) -> None:
    sample = ShuffledSource(stream, seq_length=2500, key="k")[5]
    assert np.array_equal(sample, (sample[0] + np.arange(2501)) % 1000)


def test_samples_come_from_their_source(data_config: DataConfig, write_mixture: Callable[[str], Path]) -> None:
    dataset = build_stage_dataset(data_config, write_mixture(MIXTURE), S, 1000, seed=3)
    tokenizer = load_tokenizer(data_config.tokenizer)
    assert dataset.eod_token_id == tokenizer.token_to_id("<|endoftext|>")
    counted: Counter[str] = Counter()
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample["tokens"].shape == (S + 1,)
        assert sample["tokens"].dtype == np.int64
        name = dataset.sources[sample["source"]]
        counted[name] += 1
        text = tokenizer.decode(sample["tokens"].tolist())
        assert not any(other in text for other in dataset.sources if other != name)
        if index in (9, 136, 999):
            assert dict(counted) == dataset.source_counts(index + 1)
    assert dict(counted) == {"letters": 500, "words": 300, "numbers": 200}


def test_outside_the_stage(data_config: DataConfig, write_mixture: Callable[[str], Path]) -> None:
    dataset = build_stage_dataset(data_config, write_mixture(MIXTURE), S, 10, seed=3)
    for index in (10, -1):
        with pytest.raises(IndexError):
            dataset[index]


def test_order_depends_on_the_seed_and_not_on_the_length(
    data_config: DataConfig, write_mixture: Callable[[str], Path]
) -> None:
    mixture = write_mixture(MIXTURE)
    short, long, other = (
        build_stage_dataset(data_config, mixture, S, n, seed) for n, seed in ((50, 1), (900, 1), (50, 2))
    )
    assert all(np.array_equal(short[i]["tokens"], long[i]["tokens"]) for i in range(50))
    assert not all(np.array_equal(short[i]["tokens"], other[i]["tokens"]) for i in range(50))


def rank_batches(rank: int, num_ranks: int, num_samples: int, batch_size: int) -> list[list[int]]:
    """Contiguous shares of each global batch, as data-parallel ranks take them."""
    share = batch_size // num_ranks
    starts = range(rank * share, num_samples, batch_size)
    return [list(range(start, start + share)) for start in starts]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_ranks_together_see_the_one_global_order(
    num_workers: int, data_config: DataConfig, write_mixture: Callable[[str], Path]
) -> None:
    data = DataConfig(path=data_config.path, tokenizer=data_config.tokenizer, num_workers=num_workers)
    mixture, orders = write_mixture(MIXTURE), {}
    for num_ranks in (1, 2, 4):
        loaders = [
            build_loader(build_stage_dataset(data, mixture, S, 80, 5), rank_batches(rank, num_ranks, 80, 8), data)
            for rank in range(num_ranks)
        ]
        steps = zip(*loaders, strict=True)
        orders[num_ranks] = [row.tolist() for step in steps for batch in step for row in batch["tokens"]]
    dataset = build_stage_dataset(data, mixture, S, 80, 5)
    expected = [dataset[i]["tokens"].tolist() for i in range(80)]
    assert orders[1] == orders[2] == orders[4] == expected


def test_loader_reads_an_endless_sampler_lazily(data_config: DataConfig, write_mixture: Callable[[str], Path]) -> None:
    dataset = build_stage_dataset(data_config, write_mixture(MIXTURE), S, 10**12, seed=1)
    batches = build_loader(dataset, ([i, i + 1] for i in itertools.count(10**11, 2)), data_config)
    batch = next(batches)
    assert batch["tokens"].shape == (2, S + 1)
    assert batch["source"].shape == (2,)
    assert batch["tokens"][1].tolist() == dataset[10**11 + 1]["tokens"].tolist()


def test_another_process_computes_the_same_order(data_config: DataConfig, write_mixture: Callable[[str], Path]) -> None:
    """Another interpreter, with another hash seed: nothing of the order may hang on process state."""
    mixture = write_mixture(MIXTURE)
    script = (
        "import sys; from pathlib import Path; from megatron_mimo.config import DataConfig;"
        "from megatron_mimo.data.loading.datasets import build_stage_dataset;"
        "d = build_stage_dataset(DataConfig(path=sys.argv[1], tokenizer=sys.argv[2]), Path(sys.argv[3]), 16, 99, 1);"
        "print([int(d[i]['tokens'].sum()) for i in range(99)])"
    )
    command = [sys.executable, "-c", script, data_config.path, data_config.tokenizer, str(mixture)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]).stdout
    dataset = build_stage_dataset(data_config, mixture, S, 99, 1)
    assert out.strip() == str([int(dataset[i]["tokens"].sum()) for i in range(99)])


def test_validation_sets_are_the_start_of_the_held_out_texts(data_config: DataConfig) -> None:
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    datasets = build_validation_datasets(data_config, S, sequences=5)
    assert list(datasets) == ["letters", "words", "numbers"]
    for number, (name, dataset) in enumerate(datasets.items()):
        stored = IndexedDataset(f"{data_config.path}/{name}_valid")
        tokens = np.concatenate([stored[i] for i in range(len(stored))])
        assert len(dataset) == 5
        for i in range(5):
            assert np.array_equal(dataset[i]["tokens"], tokens[i * S : i * S + S + 1])
            assert dataset[i]["source"] == number
    everything = build_validation_datasets(data_config, S, sequences=10**6)
    assert len(everything["words"]) == (len(stored_tokens(data_config, "words")) - 1) // S


def stored_tokens(data: DataConfig, name: str) -> np.ndarray:
    return np.fromfile(f"{data.path}/{name}_valid.bin", dtype=np.uint16)
