"""The transformers of the zoo: a decoder with causal attention (GPT-style) and an encoder (BERT-style).

There is no dropout: with it, no two runs of the same step could be compared. The embedding and the head do not share
their matrix: the two are at opposite ends of the chain, so a split would put one parameter on two devices.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from hetsim.models.blueprint import Blueprint
from hetsim.scenario.types import InputSpec

_EMBEDDING_DEVIATION = 0.02  # as in GPT-2 and BERT


def gpt(*, vocabulary: int, sequence: int, width: int, depth: int, heads: int) -> Blueprint:
    """GPT-style: embedding, `depth` decoder blocks, and a head that scores the vocabulary at every position."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(embedding=Embedding(vocabulary, sequence, width))
    for number in range(1, depth + 1):
        layers[f"block{number}"] = DecoderBlock(width, heads)
    layers["head"] = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False))
    return Blueprint(nn.Sequential(layers), InputSpec((sequence,), vocabulary, vocabulary), (sequence,))


def bert(*, vocabulary: int, sequence: int, width: int, depth: int, heads: int, head: str, classes: int) -> Blueprint:
    """BERT-style: embedding, `depth` encoder blocks, and a head.

    The head gives one label a sample, from the first position (`classify`), or scores the vocabulary at every
    position (`mlm`).
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["embedding"] = nn.Sequential(Embedding(vocabulary, sequence, width), nn.LayerNorm(width))
    for number in range(1, depth + 1):
        layers[f"block{number}"] = EncoderBlock(width, heads)
    if head == "classify":
        layers["head"] = nn.Sequential(FirstPosition(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, classes))
        return Blueprint(nn.Sequential(layers), InputSpec((sequence,), vocabulary, classes))
    layers["head"] = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, vocabulary))
    return Blueprint(nn.Sequential(layers), InputSpec((sequence,), vocabulary, vocabulary), (sequence,))


class Embedding(nn.Module):
    """A learnt vector for each token plus one for each position."""

    def __init__(self, vocabulary: int, sequence: int, width: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.empty(sequence, width))
        nn.init.normal_(self.token.weight, std=_EMBEDDING_DEVIATION)
        nn.init.normal_(self.position, std=_EMBEDDING_DEVIATION)

    def forward(self, tokens: Tensor) -> Tensor:
        """(samples, sequence) tokens -> (samples, sequence, width)."""
        return self.token(tokens) + self.position  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head self-attention; causal: a position sees itself and those before it."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_output = nn.Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        """(samples, sequence, width) -> the same shape."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.to_qkv(states).chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.to_output(mixed.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]


class DecoderBlock(nn.Module):
    """Causal attention and a feed-forward part, each normalised before and added to the stream (GPT-2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads, causal=True))
        self.feed_forward = nn.Sequential(nn.LayerNorm(width), *_feed_forward(width))

    def forward(self, states: Tensor) -> Tensor:
        """(samples, sequence, width) -> the same shape."""
        states = states + self.attention(states)
        return states + self.feed_forward(states)  # type: ignore[no-any-return]


class EncoderBlock(nn.Module):
    """Bidirectional attention and a feed-forward part, each added to the stream and normalised after (BERT)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads, causal=False)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(*_feed_forward(width))
        self.feed_forward_norm = nn.LayerNorm(width)

    def forward(self, states: Tensor) -> Tensor:
        """(samples, sequence, width) -> the same shape."""
        states = self.attention_norm(states + self.attention(states))
        return self.feed_forward_norm(states + self.feed_forward(states))  # type: ignore[no-any-return]


class FirstPosition(nn.Module):
    """The state of the first position, which stands for the whole sample."""

    def forward(self, states: Tensor) -> Tensor:
        """(samples, sequence, width) -> (samples, width)."""
        return states[:, 0]


def _feed_forward(width: int) -> tuple[nn.Module, ...]:
    return nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
