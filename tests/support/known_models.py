"""Models whose every token and draft is known, as Hugging Face folders."""

import itertools
import math
from pathlib import Path

import torch
from tokenizers import Tokenizer

from megatron_mimo.config import ModelConfig
from megatron_mimo.convert.huggingface import check_tokenizer, write_hugging_face
from megatron_mimo.data.tokens.tokenizer import save_tokenizer, train_tokenizer
from megatron_mimo.model.reference import ReferenceMiMo

ANSWER, OTHER = 65, 66
MODEL = ModelConfig(
    num_layers=1, hidden_size=64, ffn_hidden_size=64, num_attention_heads=2, num_query_groups=1, kv_channels=32,
    vocab_size=384,
)  # fmt: skip


def constant_model(folder: Path, draft_agrees: bool, seq_length: int = 128) -> Path:
    """A model that says ANSWER after anything, and whose MTP layer agrees, or always proposes OTHER.

    Every embedding carries a 1 in its first place and all layers pass it on unchanged; the head reads ANSWER off a
    positive first place and OTHER off a negative one.
    """
    tensors = transparent_weights()
    say_constantly(tensors, draft_agrees)
    return write_model(folder, tensors, train_tokenizer(["some words"], vocab_size=268), seq_length)


def say_constantly(tensors: dict[str, torch.Tensor], draft_agrees: bool) -> None:
    """ANSWER after any token, by the first place; the MTP layer's draft is it too, or always OTHER."""
    tensors["model.embed_tokens.weight"][:, 0] = 1.0
    tensors["lm_head.weight"][ANSWER, 0], tensors["lm_head.weight"][OTHER, 0] = 1.0, -1.0
    tensors["model.mtp_layers.0.input_proj.weight"][0, 0] = 1.0 if draft_agrees else -1.0


def undecided_model(folder: Path) -> Path:
    """A model that says ANSWER with probability 0.6 and OTHER with 0.4 at temperature 0.6; its drafts say ANSWER."""
    tensors = transparent_weights()
    tensors["model.embed_tokens.weight"][:, 0] = 1.0
    head = tensors["lm_head.weight"]
    # The norm makes 8 of the 1 among 64 places.
    head[ANSWER, 0] = 2.0
    head[OTHER, 0] = 2.0 - 0.6 * math.log(0.6 / 0.4) / 8
    tensors["model.mtp_layers.0.input_proj.weight"][0, 0] = 1.0
    return write_model(folder, tensors, train_tokenizer(["some words"], vocab_size=268))


def reciting_model(folder: Path, pieces: list[str]) -> Path:
    """A model that says the tokens `pieces` one after another behind a line break: each token calls for the next."""
    tokenizer, tensors = train_tokenizer(["some words"], vocab_size=268), transparent_weights()
    recite(tensors, chain(tokenizer, pieces), first_place=0)
    return write_model(folder, tensors, tokenizer)


def reciting_or_constant_model(folder: Path, pieces: list[str], seq_length: int) -> Path:
    """`reciting_model` behind a line break; behind all other tokens it says ANSWER, and its MTP layer OTHER."""
    tokenizer, tensors = train_tokenizer(["some words"], vocab_size=268), transparent_weights()
    recited = chain(tokenizer, pieces)
    assert not {ANSWER, OTHER} & {*recited}
    say_constantly(tensors, draft_agrees=False)
    tensors["model.embed_tokens.weight"][recited, 0] = 0.0
    recite(tensors, recited, first_place=1)
    return write_model(folder, tensors, tokenizer, seq_length)


def chain(tokenizer: Tokenizer, pieces: list[str]) -> list[int]:
    """The tokens of a recital: a line break, the pieces, the ends of turn and document.

    Pieces of several letters become tokens; none may come twice.
    """
    tokenizer.add_tokens(["<think>", "</think>", *(piece for piece in pieces if tokenizer.token_to_id(piece) is None)])
    return [tokenizer.token_to_id(piece) for piece in ("\u010a", *pieces, "<|im_end|>", "<|endoftext|>")]


def recite(tensors: dict[str, torch.Tensor], tokens: list[int], first_place: int) -> None:
    """Each token calls for the next, by a place of its own."""
    for place, (now, following) in enumerate(itertools.pairwise(tokens), start=first_place):
        tensors["model.embed_tokens.weight"][now, place] = 1.0
        tensors["lm_head.weight"][following, place] = 1.0


def coin_model(folder: Path) -> Path:
    """A model that says `\\boxed{1}` or `\\boxed{2}` behind a line break, each half of the times, and ends its turn.

    At temperature 1: the head tells neighbours in its chain by 8 nats a place, and the two numbers by none.
    """
    tokenizer = train_tokenizer(["some words"], vocab_size=268)
    before = [tokenizer.token_to_id(piece) for piece in ("\u010a", *"\\boxed{")]
    one, two, brace, end = (tokenizer.token_to_id(piece) for piece in ("1", "2", "}", "<|im_end|>"))
    opening = before[-1]
    pairs = [*itertools.pairwise(before), (opening, one), (opening, two), (one, brace), (two, brace), (brace, end)]
    places = {token: place for place, token in enumerate(dict.fromkeys(now for now, _ in pairs))}
    tensors = transparent_weights()
    for now, following in pairs:
        tensors["model.embed_tokens.weight"][now, places[now]] = 1.0
        tensors["lm_head.weight"][following, places[now]] = 2.0
    return write_model(folder, tensors, tokenizer)


def transparent_weights() -> dict[str, torch.Tensor]:
    """Layers that add nothing and norms that only scale; embeddings, head and MTP projection are left to fill in."""
    tensors = {name: torch.zeros_like(t) for name, t in ReferenceMiMo(MODEL, rotary_base=10_000).state_dict().items()}
    for name, tensor in tensors.items():
        if "norm" in name:
            tensor.fill_(1.0)
    return tensors


def write_model(folder: Path, tensors: dict[str, torch.Tensor], tokenizer: Tokenizer, seq_length: int = 128) -> Path:
    """The Hugging Face folder of these weights."""
    path = folder.parent / "tokenizer"
    save_tokenizer(tokenizer, path)
    settings = {"rotary_base": 10_000, "seq_length": seq_length, "tokenizer": check_tokenizer(path, MODEL)}
    write_hugging_face(folder, MODEL, tensors.items(), **settings)
    return folder
