"""The interface of language models: words in, logits of the next word out, and a state carried
on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from datadistill.errors import UsageError

__all__ = ["LanguageModel", "State", "check_window", "vocabulary_of"]

State = tuple[Tensor, ...]


class LanguageModel(nn.Module):
    """A net from words (T,B), as numbers, and a state to logits (T,B,V) of the word after each, and
    a state: z_t, s_t = net(w_t, s_{t-1}), and softmax(z_t) predicts w_{t+1}.

    To make one, write `forward` and `initial_state`. The state comes out attached to its graph;
    truncated backpropagation detaches it between windows. cuDNN's recurrent layers cannot be
    differentiated twice except under `torch.backends.cudnn.flags(enabled=False)`.

    Args:
        words: the vocabulary, number -> word, each once.
    """

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        self.words = vocabulary_of(words)

    def forward(
        self, tokens: Int[Tensor, "t b"], state: State | None = None
    ) -> tuple[Float[Tensor, "t b v"], State]:
        """Logits (T,B,V) of the word after each word, and the state after the last.

        Args:
            tokens: (T,B), column by column a stretch of text, each 0 to V - 1.
            state: what the call on the words before returned; None: `initial_state`.
        """
        raise NotImplementedError

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        """The state of `batch` columns before the first word: zeros, by default where the
        parameters are."""
        raise NotImplementedError


def vocabulary_of(words: Sequence[str]) -> tuple[str, ...]:
    """A vocabulary, number -> word, as a tuple; a word that is there twice is refused."""
    if isinstance(words, str) or not words or not all(isinstance(word, str) for word in words):
        raise UsageError(
            f"words is {repr(words)[:60]}; give a list of one word or more, such as corpus.words"
        )
    if len(set(words)) < len(words):
        double, _ = Counter(words).most_common(1)[0]
        raise UsageError(
            f"the word {double[:80]!r} is twice in the vocabulary; give each word once"
        )
    return tuple(words)


def check_window(tokens: Int[Tensor, "t b"], state: State, like: State) -> None:
    """Refuse tokens that are not whole numbers (T,B), or a state whose shapes are not those of
    `like`. Whether each number is a word is not tested here: on a GPU that would wait for it at
    every window."""
    if tokens.dim() != 2 or tokens.is_floating_point() or not tokens.numel():
        raise UsageError(
            f"tokens are {tuple(tokens.shape)} {tokens.dtype}; pass whole numbers (words, columns)"
        )
    found, wanted = [tuple(s.shape) for s in state], [tuple(s.shape) for s in like]
    if found != wanted:
        raise UsageError(
            f"the state has shapes {found}, but {tokens.shape[1]} columns want {wanted}; pass the "
            "state of the window before, with as many columns, or None"
        )
