"""Language models by name.

    net = build_language("lstm", corpus.words, width=200, seed=3)

To add one, add a file and a line to `LANGUAGE_NETS`.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from datadistill.errors import UsageError, suggest
from datadistill.nets.limits import limit_size
from datadistill.streams import global_stream
from kd_baselines.language.cnn_lstm import CNNLSTMLanguageModel
from kd_baselines.language.lstm import LSTMLanguageModel
from kd_baselines.language.model import LanguageModel

__all__ = ["LANGUAGE_NETS", "LanguageModel", "build_language", "language_arguments"]

LANGUAGE_NETS: dict[str, Callable[..., LanguageModel]] = {
    "lstm": LSTMLanguageModel,
    "cnn-lstm": CNNLSTMLanguageModel,
}


def language_arguments(name: str) -> dict[str, Any]:
    """The arguments, with their defaults, that a language model takes besides its words.

    >>> language_arguments("lstm")
    {'width': 1500, 'layers': 1, 'dropout': 0.65, 'tied': True, 'init_range': 0.05}
    """
    if name not in LANGUAGE_NETS:
        raise UsageError(
            f"there is no language model called {name!r}; {suggest(str(name), LANGUAGE_NETS)}"
        )
    parameters = inspect.signature(LANGUAGE_NETS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.name != "words"}


def build_language(
    name: str, words: Sequence[str], *, seed: int | None = None, **args: Any
) -> LanguageModel:
    """A new language model on the default device, in training mode.

    Args:
        name: a key of `LANGUAGE_NETS`.
        words: the vocabulary, number -> word.
        seed: of the first weights: the stream (seed, "theta_0"), torch's global generators left as
            they were; None draws from those.
        **args: the model's own arguments; `language_arguments(name)` lists them.
    """
    known = language_arguments(name)
    for argument in args:
        if argument not in known:
            own = suggest(argument, known)
            raise UsageError(
                f"the language model {name} has no argument called {argument!r}; {own}"
            )
    stream = contextlib.nullcontext() if seed is None else global_stream(seed, "theta_0")
    with stream, limit_size(name, args):
        return LANGUAGE_NETS[name](words, **args)
