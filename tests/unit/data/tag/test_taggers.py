"""Both taggers: they learn, come back from disk unchanged, and tag documents in the pipeline."""

import json
from pathlib import Path

import pytest
import torch

from megatron_mimo.config import ConfigError, UserError
from megatron_mimo.data.document import Document
from megatron_mimo.data.pipeline.step import Task
from megatron_mimo.data.tag.construct import construct
from megatron_mimo.data.tag.labelled import LabelledPage, read_labelled, write_labelled
from megatron_mimo.data.tag.language import LanguageStep
from megatron_mimo.data.tag.linear import LinearSettings, LinearTagger
from megatron_mimo.data.tag.schema import DOMAINS, SCORES, Tags, TagsError, tags_from_json, tags_to_json
from megatron_mimo.data.tag.tag_step import TagStep
from megatron_mimo.data.tag.tagger import load_tagger

HELD_OUT = Path(__file__).parents[3] / "tagged_pages/pages.jsonl"


@pytest.fixture(scope="module")
def pages() -> list[LabelledPage]:
    return construct(400)


@pytest.fixture(scope="module")
def linear(pages: list[LabelledPage]) -> LinearTagger:
    torch.set_num_threads(1)
    return LinearTagger.train(pages, LinearSettings(hash_bits=14, epochs=4))


def test_held_out_pages_are_what_they_say() -> None:
    held_out = read_labelled(HELD_OUT)
    assert len(held_out) >= 200 and len({page.id for page in held_out}) == len({page.text for page in held_out}) == len(
        held_out
    )
    assert {page.tags.domain for page in held_out} == set(DOMAINS)
    assert {page.tags.reasoning_depth for page in held_out} == set(range(6))
    assert sum(page.tags.language == "zh" for page in held_out) >= 30


def test_construction_repeats_and_shares_nothing_with_the_held_out_pages(pages: list[LabelledPage]) -> None:
    assert construct(400) == pages != construct(400, seed=1)
    assert {page.tags.domain for page in pages} == set(DOMAINS)
    lines = {line for page in pages for line in page.text.splitlines() if len(line) > 40}
    assert not [page.id for page in read_labelled(HELD_OUT) if lines & set(page.text.splitlines())]


def test_linear_carries_over_to_hand_written_pages(linear: LinearTagger) -> None:
    """Far above the most frequent domain (18 %) even after a few pages; the benchmark has the real figures."""
    held_out = read_labelled(HELD_OUT)
    tags = linear.tag([page.text for page in held_out])
    assert sum(a.domain == page.tags.domain for a, page in zip(tags, held_out, strict=True)) > 0.4 * len(held_out)


def test_linear_comes_back_from_disk(linear: LinearTagger, pages: list[LabelledPage], tmp_path: Path) -> None:
    linear.save(tmp_path)
    texts = [page.text for page in pages[:50]]
    before, after = linear.tag(texts), load_tagger(tmp_path).tag(texts)
    assert [a.domain for a in before] == [b.domain for b in after]
    for name in SCORES:
        for a, b in zip(before, after, strict=True):
            assert getattr(a, name) == pytest.approx(getattr(b, name), abs=0.02)
    assert linear.tag([]) == []


def test_batches_do_not_matter(linear: LinearTagger) -> None:
    texts = ["", "Let x be a prime.", "Buy now!", "因为" * 3000]
    alone = [linear.tag([text])[0] for text in texts]
    assert [tags_to_json(tags) for tags in linear.tag(texts)] == [tags_to_json(tags) for tags in alone]


def test_language_model_learns_and_comes_back(pages: list[LabelledPage], tmp_path: Path) -> None:
    from megatron_mimo.data.tag.language_model import LanguageModelSettings, LanguageModelTagger

    torch.set_num_threads(1)
    settings = LanguageModelSettings(
        vocab_size=512, hidden_size=32, ffn_hidden_size=64, num_layers=1, max_tokens=48, epochs=6, learning_rate=4e-3
    )
    tagger = LanguageModelTagger.train(pages[:300], settings)
    texts = [page.text for page in pages[:300]]
    tags = tagger.tag(texts)
    right = sum(a.domain == page.tags.domain for a, page in zip(tags, pages, strict=False))
    assert right > 0.4 * 300, "it must fit its own training pages far better than the most frequent domain"
    tagger.save(tmp_path)
    again = load_tagger(tmp_path).tag(texts[:20])
    assert [tags_to_json(a) for a in again] == [tags_to_json(a) for a in tagger.tag(texts[:20])]
    one_by_one = [tagger.tag([text])[0] for text in texts[:8]]
    for a, b in zip(one_by_one, tags[:8], strict=True):
        assert a.reasoning_depth == pytest.approx(b.reasoning_depth, abs=1e-3), "padding must not be seen"


def test_language_model_body_is_the_reference_model(tmp_path: Path) -> None:
    """A folder with MiMo's names gives the hidden states that the plain PyTorch model computes."""
    from safetensors.torch import save_file

    from megatron_mimo.config import ModelConfig
    from megatron_mimo.data.tag.language_model import LanguageModelSettings, LanguageModelTagger
    from megatron_mimo.data.tokens.tokenizer import save_tokenizer, train_tokenizer
    from megatron_mimo.model.reference import ReferenceMiMo

    torch.manual_seed(0)
    config = ModelConfig(
        num_layers=2,
        hidden_size=32,
        ffn_hidden_size=64,
        num_attention_heads=4,
        num_query_groups=2,
        kv_channels=8,
        vocab_size=300,
    )
    reference = ReferenceMiMo(config, rotary_base=10_000.0)
    save_file(
        {name: tensor.contiguous() for name, tensor in reference.state_dict().items()}, tmp_path / "model.safetensors"
    )
    described = {
        "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 10_000.0, "max_position_embeddings": 64,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(described))
    save_tokenizer(train_tokenizer(["some words to learn from " * 9 + str(i) for i in range(99)], 280), tmp_path)
    tagger = LanguageModelTagger._from_folder(tmp_path, LanguageModelSettings())
    tokens = torch.randint(0, 300, (2, 20))
    with torch.no_grad():
        hidden = tagger._model.body(input_ids=tokens).last_hidden_state
        torch.testing.assert_close(reference.lm_head(hidden), reference(tokens)[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="not a Hugging Face folder"):
        LanguageModelTagger._from_folder(tmp_path / "nowhere", LanguageModelSettings())


def test_steps_write_metadata(linear: LinearTagger, tmp_path: Path) -> None:
    linear.save(tmp_path)
    task = Task()
    documents = [
        Document(str(i), text)
        for i, text in enumerate(["The sum of two odd numbers is even."] * 5 + ["这是一个定理的证明。"])
    ]
    kept = list(TagStep(model=str(tmp_path), batch_size=2).run(LanguageStep().run(documents, task), task))
    assert [document.id for document in kept] == ["0", "1", "2", "3", "4", "5"]
    assert kept[0].metadata["tags"]["language"] == kept[0].metadata["language"] == "en"
    assert kept[5].metadata["tags"]["language"] == "zh"
    assert tags_from_json(json.loads(json.dumps(kept[0].metadata["tags"]))).domain in DOMAINS
    assert task.counts["language/en"] == 5 and task.counts["language/zh"] == 1


def test_steps_drop_what_they_are_asked_to(linear: LinearTagger, tmp_path: Path) -> None:
    linear.save(tmp_path)
    task = Task()
    texts = [page.text for page in construct(60, seed=3) if page.tags.domain == "advertisement"]
    step = TagStep(model=str(tmp_path), drop_domains=["advertisement"])
    assert not list(step.run([Document(str(i), text) for i, text in enumerate(texts)], task))
    assert task.counts["tag/dropped/domain advertisement"] == len(texts)
    german = Document("de", "Der schnelle braune Fuchs springt über den faulen Hund.")
    assert not list(LanguageStep(keep=["en"]).run([german], task))
    with pytest.raises(ConfigError):
        TagStep(model="x", drop_domains=["sport"])


def test_no_tagger_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train-tagger"):
        load_tagger(tmp_path)
    (tmp_path / "tagger.json").write_text('{"kind": "oracle", "settings": {}}')
    with pytest.raises(UserError, match="oracle"):
        load_tagger(tmp_path)


def test_labelled_pages_round_trip_and_errors(tmp_path: Path, pages: list[LabelledPage]) -> None:
    write_labelled(tmp_path / "p", pages[:20])
    assert read_labelled(tmp_path / "p") == pages[:20]
    (tmp_path / "p").write_text('{"id": "a", "text": "b", "domain": "sport"}\n')
    with pytest.raises(UserError, match="line 1"):
        read_labelled(tmp_path / "p")
    with pytest.raises(TagsError):
        Tags(domain="law", knowledge_density=6, reasoning_depth=0, educational_value=0)
