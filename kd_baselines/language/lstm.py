"""The LSTM language model, its output weights tied to the embedding.

    x_t = E[w_t]        h_t = LSTM(D(x_t), h_{t-1})        z_t = O D(h_t) + b        tied: O = E

D is dropout. With one LSTM layer of 1500 units, 10,000 words and tied weights it has

    E 15,000,000 + LSTM 18,012,000 + b 10,000 = 33,022,000 parameters

The Born-Again paper prints 52M for one layer of 1500 units with tied weights. None of these gives
that: one layer 33,022,000 tied and 48,022,000 untied, two layers 51,034,000 tied and 66,034,000
untied. Two layers, tied, are the nearest.

References: Zaremba et al., Recurrent neural network regularization, 2014,
https://arxiv.org/abs/1409.2329; Press and Wolf, Using the output embedding to improve language
models, 2017, https://arxiv.org/abs/1608.05859; Furlanello et al., Born-again neural networks, 2018,
https://arxiv.org/abs/1805.04770, section 4
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
from kd_baselines.language.model import LanguageModel, State, check_window

__all__ = ["LSTMLanguageModel", "LSTMLayers", "draw_uniform"]


class LSTMLayers(nn.Module):
    """LSTM layers of `width` units with dropout between them.

    Each is an `nn.LSTM` of one layer: the dropout inside one of several layers is cuDNN's on a GPU,
    which does not follow torch's seed everywhere (pytorch issue 74177), so that a resumed run would
    draw other masks.
    """

    def __init__(self, inputs: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.width = check_whole("width", width)
        check_whole("layers", layers)
        self.between = dropout_layer(dropout)
        self.lstms = nn.ModuleList(nn.LSTM(width if i else inputs, width) for i in range(layers))

    def forward(
        self, inputs: Float[Tensor, "t b d"], state: State
    ) -> tuple[Float[Tensor, "t b w"], tuple[Tensor, Tensor]]:
        """Outputs (T,B,width) of the last layer, and (h, c) after, each (layers,B,width), from
        those before."""
        after = []
        for i, lstm in enumerate(self.lstms):
            inputs = self.between(inputs) if i else inputs
            inputs, hc = lstm(
                inputs, (state[0][i : i + 1].contiguous(), state[1][i : i + 1].contiguous())
            )
            after.append(hc)
        return inputs, (torch.cat([h for h, _ in after]), torch.cat([c for _, c in after]))

    def initial_state(
        self, batch: int, device: torch.device | str | None = None
    ) -> tuple[Tensor, Tensor]:
        """(h, c) of zeros, each (layers,B,width), in the type of the parameters."""
        like = next(self.parameters())
        shape = (len(self.lstms), batch, self.width)
        zeros = like.new_zeros(shape, device=like.device if device is None else device)
        return zeros, zeros.clone()


class LSTMLanguageModel(LanguageModel):
    """Embedding, LSTM layers and a linear layer over the words.

    Dropout is on the embedding, between the LSTM layers and on the last one's output.

    Args:
        words: the vocabulary, number -> word.
        width: of the embedding and of the LSTM layers.
        layers: LSTM layers.
        dropout: probability in [0, 1), from torch's global generator.
        tied: the linear layer's weight is the embedding's; its bias is its own.
        init_range: every parameter starts uniform in [-init_range, init_range]. The paper does not
            print it; Zaremba et al. take 0.04 to 0.1.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        width: int = 1500,
        layers: int = 1,
        dropout: float = 0.65,
        tied: bool = True,
        init_range: float = 0.05,
    ) -> None:
        super().__init__(words)
        self.dropout = dropout_layer(dropout)
        self.layers = LSTMLayers(check_whole("width", width), width, layers, dropout)
        self.embedding = nn.Embedding(len(self.words), width)
        # a tied weight is used twice but held, counted and saved once
        self.output = None if tied else nn.Parameter(torch.empty(len(self.words), width))
        self.bias = nn.Parameter(torch.empty(len(self.words)))
        draw_uniform(self, init_range)

    def forward(
        self, tokens: Int[Tensor, "t b"], state: State | None = None
    ) -> tuple[Float[Tensor, "t b v"], State]:
        zeros = self.initial_state(tokens.shape[-1])
        state = zeros if state is None else state
        check_window(tokens, state, zeros)
        hidden, state = self.layers(self.dropout(self.embedding(tokens)), state)
        weight = self.embedding.weight if self.output is None else self.output
        return F.linear(self.dropout(hidden), weight, self.bias), state

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        return self.layers.initial_state(batch, device)


@torch.no_grad()
def draw_uniform(net: nn.Module, init_range: float) -> None:
    """Fill every parameter, in place, uniformly in [-init_range, init_range], from torch's global
    generator."""
    if not 0 < init_range < float("inf"):
        raise UsageError(f"init_range is {init_range}; give a finite number above 0, such as 0.05")
    for parameter in net.parameters():
        nn.init.uniform_(parameter, -init_range, init_range)
