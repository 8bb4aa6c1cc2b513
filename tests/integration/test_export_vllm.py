"""An exported nano model in vLLM on the CPU, drafting with its MTP layer, against the plain-PyTorch reference."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from megatron_mimo.config import ModelConfig
from megatron_mimo.convert import huggingface, mimo
from megatron_mimo.model.reference import ReferenceMiMo

pytestmark = pytest.mark.slow

MODEL = ModelConfig(
    num_layers=3,
    hidden_size=128,
    ffn_hidden_size=256,
    num_attention_heads=4,
    num_query_groups=2,
    kv_channels=32,
    vocab_size=384,
)
ROTARY_BASE = 640_000
NEW_TOKENS = 24
PROMPTS = torch.randint(3, 300, (6, 16), generator=torch.Generator().manual_seed(2)).tolist()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ReferenceMiMo]:
    """A model that mostly permutes tokens, with enough noise that its MTP layer is right about two times in three."""
    folder = tmp_path_factory.mktemp("vllm")
    generator = torch.Generator().manual_seed(0)
    noise = {name: torch.randn(shape, generator=generator) for name, shape in mimo.hugging_face_shapes(MODEL).items()}
    weights = {n: 1 + 0.1 * t if "norm" in n else t * (0.3 if "bias" in n else 0.105) for n, t in noise.items()}
    embedding = weights["model.embed_tokens.weight"] = noise["model.embed_tokens.weight"]
    weights["lm_head.weight"] = embedding[torch.randperm(MODEL.vocab_size, generator=generator)] * 0.1
    weights["model.mtp_layers.0.input_proj.weight"][:, MODEL.hidden_size :] += torch.eye(MODEL.hidden_size)
    reference = ReferenceMiMo(MODEL, ROTARY_BASE)
    reference.load_state_dict(weights)
    tokenizer = huggingface.check_tokenizer(make_tokenizer(folder / "tokenizer"), MODEL)
    settings = {"rotary_base": ROTARY_BASE, "seq_length": 128, "tokenizer": tokenizer}
    huggingface.write_hugging_face(folder / "model", MODEL, weights.items(), **settings)
    return folder / "model", reference.eval().requires_grad_(False)


def make_tokenizer(folder: Path) -> Path:
    folder.mkdir()
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["one two three four five six seven"], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def engine(exported):
    """In this process, which has no process groups afterwards, as other tests of the session expect."""
    vllm = pytest.importorskip("vllm")
    from vllm.distributed import cleanup_dist_env_and_memory

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        yield make_engine(vllm, exported[0])
    cleanup_dist_env_and_memory()


def make_engine(vllm, model: Path):
    return vllm.LLM(
        str(model),
        trust_remote_code=True,
        dtype="float32",
        enforce_eager=True,
        max_model_len=128,
        max_num_seqs=8,
        disable_log_stats=False,
        speculative_config={"method": "mtp", "num_speculative_tokens": 1},
    )


def generate(engine, **options):
    vllm = pytest.importorskip("vllm")
    settings = vllm.SamplingParams(temperature=0.0, ignore_eos=True, **options)
    return engine.generate([{"prompt_token_ids": prompt} for prompt in PROMPTS], settings, use_tqdm=False)


def accepted_and_drafted(engine) -> tuple[int, int]:
    counters = {metric.name: getattr(metric, "value", 0) for metric in engine.get_metrics()}
    return counters["vllm:spec_decode_num_accepted_tokens"], counters["vllm:spec_decode_num_draft_tokens"]


def test_greedy_tokens_and_drafts_equal_the_reference(exported, engine) -> None:
    """Tokens by a naive argmax loop; a draft is accepted exactly where the reference's MTP argmax is the next token."""
    _, reference = exported
    before = accepted_and_drafted(engine)
    outputs = generate(engine, max_tokens=NEW_TOKENS)
    accepted, drafted = (after - first for after, first in zip(accepted_and_drafted(engine), before, strict=True))
    expected_accepted = expected_drafted = 0
    for prompt, output in zip(PROMPTS, outputs, strict=True):
        tokens = list(prompt)
        for _ in range(NEW_TOKENS):
            tokens.append(int(reference(torch.tensor([tokens]))[0, 0, -1].argmax()))
        assert list(output.outputs[0].token_ids) == tokens[len(prompt) :]
        accepted_here, drafted_here = replay_drafts(reference, tokens, len(prompt))
        expected_accepted += accepted_here
        expected_drafted += drafted_here
    print(f"accepted {accepted} of {drafted} drafts; the reference says {expected_accepted} of {expected_drafted}")
    assert 0.2 < expected_accepted / expected_drafted < 0.95, "a test of drafts needs right and wrong ones"
    assert abs(accepted / drafted - expected_accepted / expected_drafted) < 0.02


def replay_drafts(reference: ReferenceMiMo, tokens: list[int], prompt_tokens: int) -> tuple[int, int]:
    """(accepted, drafted) of speculative decoding with one draft a step that ends with `tokens`."""
    drafts = reference(torch.tensor([tokens]))[1, 0].argmax(-1).tolist()
    known, accepted, drafted = prompt_tokens + 1, 0, 0
    while known < len(tokens):
        drafted += 1
        right = drafts[known - 2] == tokens[known]
        accepted += right
        known += 1 + right
    return accepted, drafted


def test_prompt_logprobs_equal_the_reference(exported, engine) -> None:
    _, reference = exported
    differences = []
    for prompt, output in zip(PROMPTS, generate(engine, max_tokens=1, prompt_logprobs=0), strict=True):
        expected = reference(torch.tensor([prompt]))[0, 0].log_softmax(-1)
        differences += [
            abs(output.prompt_logprobs[i][prompt[i]].logprob - expected[i - 1, prompt[i]].item())
            for i in range(1, len(prompt))
        ]
    print(f"largest difference of {len(differences)} prompt logprobs: {max(differences):.1e}")
    assert len(differences) == 6 * 15
    assert max(differences) < 2e-2
