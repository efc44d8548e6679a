"""The character-aware language model: convolutions over a word's characters, highway layers, LSTM,
softmax.

    C         (l,d)   vectors of the word's characters, a start and an end mark around them
    k_w       = max over i of tanh(F_w * C[i : i + w] + b_w)        w = 1..widths, min(most, filters
                                                                    w) filters
    y         = (k_1, ..., k_widths)
    highway   t = sigmoid(W_T y + b_T);  y <- t relu(W_H y + b_H) + (1 - t) y
    z_t       = O D(LSTM(y_t, h_{t-1})) + b

The maximum is over windows inside the word; a word shorter than w is filled up with zeros to one
window. So a word's vector depends on the word alone, not on the longest beside it. "<unk>" and
"<eos>" are spelled like any other word. Dropout D is between LSTM layers and before the softmax,
not before the first LSTM layer, as in the paper. Input and output weights cannot be tied: there is
no table of word vectors to tie.

With Penn Treebank's 10,000 words the default has 19,373,150 parameters; the paper prints 19M
(LSTM-Char-Large).

Reference: Kim et al., Character-aware neural language models, 2016,
https://arxiv.org/abs/1508.06615
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.layers import check_whole
from datadistill.nets.layers import dropout as dropout_layer
from kd_baselines.language.lstm import LSTMLayers, draw_uniform
from kd_baselines.language.model import LanguageModel, State, check_window

__all__ = ["CNNLSTMLanguageModel", "CharacterCNN", "Highway"]

_START, _END, _NONE = 0, 1, -1
# words times characters; those of every text here are a hundredth of it
_LARGEST_TABLE = 50_000_000


class CharacterCNN(nn.Module):
    """Words, as numbers, to vectors computed from their characters; the arguments are
    `CNNLSTMLanguageModel`'s. The table word -> characters is a buffer and is saved with the
    weights."""

    table: Tensor

    def __init__(
        self, words: Sequence[str], char_width: int, widths: int, filters: int, most_filters: int
    ) -> None:
        super().__init__()
        check_whole("char_width", char_width)
        check_whole("widths", widths)
        check_whole("filters", filters)
        check_whole("most_filters", most_filters)
        self.characters = "".join(sorted(set("".join(words))))
        number = {character: i for i, character in enumerate(self.characters, start=2)}
        longest = max(widths, max(map(len, words)) + 2)
        if len(words) * longest > _LARGEST_TABLE:
            raise UsageError(
                f"a table of {len(words):,} words in {longest:,} characters (the longest word, and "
                f"widths {widths}) has more than {_LARGEST_TABLE:,} entries; take fewer "
                "or shorter words"
            )
        rows = [[_START, *(number[c] for c in word), _END] for word in words]
        table = torch.tensor(
            [row + [_NONE] * (longest - len(row)) for row in rows], dtype=torch.int32
        )
        self.register_buffer("table", table)
        self.embedding = nn.Embedding(len(number) + 2, char_width)
        counts = [min(most_filters, filters * w) for w in range(1, widths + 1)]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(char_width, count, w) for w, count in enumerate(counts, start=1)
        )
        self.outputs = sum(counts)
        """Entries of a word's vector."""

    def forward(self, numbers: Int[Tensor, " n"]) -> Float[Tensor, "n f"]:
        spelled = self.table[numbers]
        there = spelled != _NONE
        lengths = there.sum(1)
        longest = max(int(lengths.max()), len(self.convolutions))
        spelled, there = spelled[:, :longest], there[:, :longest]
        # (N,d,l)
        vectors = (self.embedding(spelled.clamp(min=0)) * there.unsqueeze(2)).transpose(1, 2)
        found = []
        for w, convolution in enumerate(self.convolutions, start=1):
            maps = convolution(vectors)
            starts = torch.arange(maps.shape[2], device=maps.device)
            outside = starts > (lengths - w).clamp(min=0).unsqueeze(1)
            # tanh grows, so the maximum may come first
            found.append(maps.masked_fill(outside.unsqueeze(1), -torch.inf).amax(2).tanh())
        return torch.cat(found, 1)


class Highway(nn.Module):
    """One highway layer: t relu(W_H y + b_H) + (1 - t) y with t = sigmoid(W_T y + b_T)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.transform = nn.Linear(width, width)
        self.gate = nn.Linear(width, width)

    def forward(self, y: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        t = torch.sigmoid(self.gate(y))
        return t * F.relu(self.transform(y)) + (1 - t) * y


class CNNLSTMLanguageModel(LanguageModel):
    """A language model that reads characters and predicts words.

    Args:
        words: the vocabulary, number -> word; their characters are what the net reads.
        char_width: entries of a character's vector.
        widths: the widest convolution, in characters; there is one of each width from 1.
        filters: filters for each character of a width.
        most_filters: of one width.
        highway: highway layers; 0 leaves them out.
        width: units of each LSTM layer.
        layers: LSTM layers.
        dropout: probability in [0, 1), from torch's global generator.
        init_range: every parameter starts uniform in [-init_range, init_range], but the highway
            gates' biases at -2: at first a highway layer mostly passes its input on.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        char_width: int = 15,
        widths: int = 7,
        filters: int = 50,
        most_filters: int = 200,
        highway: int = 2,
        width: int = 650,
        layers: int = 2,
        dropout: float = 0.5,
        init_range: float = 0.05,
    ) -> None:
        super().__init__(words)
        self.cnn = CharacterCNN(self.words, char_width, widths, filters, most_filters)
        count = check_whole("highway", highway, least=0)
        self.highway = nn.Sequential(*(Highway(self.cnn.outputs) for _ in range(count)))
        self.layers = LSTMLayers(self.cnn.outputs, width, layers, dropout)
        self.dropout = dropout_layer(dropout)
        self.output = nn.Linear(width, len(self.words))
        draw_uniform(self, init_range)
        for layer in self.highway:
            nn.init.constant_(layer.gate.bias, -2.0)  # type: ignore[union-attr, arg-type]

    def forward(
        self, tokens: Int[Tensor, "t b"], state: State | None = None
    ) -> tuple[Float[Tensor, "t b v"], State]:
        zeros = self.initial_state(tokens.shape[-1])
        state = zeros if state is None else state
        check_window(tokens, state, zeros)
        hidden, state = self.layers(self.vectors(tokens), state)
        return self.output(self.dropout(hidden)), state

    def vectors(self, tokens: Int[Tensor, "t b"]) -> Float[Tensor, "t b f"]:
        """The LSTM's input: each different word of the window goes through the convolutions
        once."""
        numbers, places = torch.unique(tokens, return_inverse=True)
        return self.highway(self.cnn(numbers))[places]

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        return self.layers.initial_state(batch, device)
