"""The yardsticks against the command-line tools and against decompression."""

import random
import shutil
import subprocess

import pytest
import zstandard

from megatron_mimo.eval.compression import PrimedZstd, gzip_bytes, xz_bytes, zstd_bytes


def text(seed: int, words: int) -> bytes:
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("abcdefgh", k=rng.randrange(2, 9))) for _ in range(300)]
    return " ".join(rng.choices(vocabulary, k=words)).encode()


@pytest.mark.parametrize(
    ("measure", "command"),
    [(gzip_bytes, ["gzip", "-9", "-n", "-c"]), (xz_bytes, ["xz", "-9e", "-c"]), (zstd_bytes, ["zstd", "-19", "-c"])],
    ids=["gzip", "xz", "zstd"],
)
def test_agrees_with_the_command_line_tool(measure, command) -> None:
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    sample = text(0, 5000)
    tool = subprocess.run(command, input=sample, stdout=subprocess.PIPE, check=True).stdout
    assert measure(sample) == pytest.approx(len(tool), rel=0.01)  # another build of the library, another checksum


def test_training_text_as_dictionary_restores_the_text_and_helps() -> None:
    training, held_out = text(0, 30_000), text(0, 33_000)[-20_000:]
    primed = PrimedZstd(training, len(held_out))
    decompressor = zstandard.ZstdDecompressor(dict_data=primed.dictionary)
    assert decompressor.decompress(primed.compress(held_out)) == held_out
    assert primed.size_bytes(held_out) < zstd_bytes(held_out)


def test_whole_training_text_is_within_reach() -> None:
    rng = random.Random(0)
    training = rng.randbytes(3_000_000)  # incompressible: only a match at its very start can shorten this
    assert PrimedZstd(training, 50_000).size_bytes(training[:50_000]) < 1000
