"""The language models of Furlanello et al., Born-Again neural networks, 2018,
https://arxiv.org/abs/1805.04770, on Penn Treebank, and one for a CPU.

The paper's: both nets, the schedules, the teacher's probabilities at each step beside the words
(BAN+L; without the words LSTMs did not improve). Ours: the weight 1 of the words, that the loss is
summed over a window and its gradient clipped to the norm 5 (Zaremba et al. 2014), the range of the
first weights, and that an epoch is held against the one before. The paper counts 52M parameters in
its LSTM of one layer of 1500 units with tied weights; ours has 33M, see language/lstm.py.

Published numbers are perplexities of single runs; lower is better. The paper has a teacher and one
generation.
"""

from __future__ import annotations

from kd_baselines.language.config import LanguageConfig
from kd_baselines.recipes.born_again_tables import PAPER, TABLE_6, cells
from kd_baselines.recipes.recipe_page import Arm, Page

_CNN = {
    "net": "cnn-lstm",
    "net_args": {},
    "batch": 20,
    "lr": 2.0,
    "decay_factor": 0.5,
    "decay_below": 0.5,
}
_SMALL = {
    "tokens": 200_000,
    "net_args": {"width": 128, "dropout": 0.2},
    "batch": 20,
    "epochs": 6,
    "decay_factor": 0.5,
    "decay_below": 20.0,
}


_TINY = {
    "tokens": 60_000,
    "vocabulary": 1000,
    "net_args": {"width": 64, "dropout": 0.2},
    "batch": 20,
    "epochs": 8,
    "lr": 0.5,
    "decay_factor": 0.5,
    "decay_below": 10.0,
}
_TINY_CNN = {
    "net": "cnn-lstm",
    "decay_below": 5.0,
    "net_args": {
        "char_width": 8,
        "widths": 3,
        "filters": 10,
        "most_filters": 30,
        "highway": 1,
        "width": 64,
        "layers": 1,
        "dropout": 0.2,
    },
}


def ban_ptb() -> LanguageConfig:
    """An LSTM is born again, on Penn Treebank: taught at each word by an LSTM like itself.

    The teacher is the arm `teacher`; `kd-baselines born-again` trains it and the generations after
    it. Each of them is as large, and takes as long. The arms cnn-lstm are the paper's other net,
    which reads characters; small is `ban-ptb-small`.
    """
    return LanguageConfig(
        recipe="ban-ptb",
        method="born-again",
        label_weight=1.0,
        net="lstm",
        net_args={"width": 1500, "layers": 1, "dropout": 0.65, "tied": True},
        epochs=40,
        batch=32,
        unroll=35,
        lr=1.0,
        decay_factor=0.25,
        decay_below=0.0,
    )


def ban_ptb_small() -> LanguageConfig:
    """The LSTM of `ban-ptb` at 128 units, on the first 200,000 words: a minute an epoch on one
    core.

    The words are those of the 200,000, the others are <unk>, which is easier to predict than they
    are: a perplexity here is not one of the whole text. Few epochs: the learning rate is halved
    after each that lowers the validation perplexity by 20 or less. With the paper's rule the last
    epochs hang on whether one of them happens to rise (chosen so on validation perplexities of one
    chain).
    """
    return ban_ptb().with_changes(recipe="ban-ptb-small", **_SMALL)


def ban_ptb_tiny() -> LanguageConfig:
    """The LSTM of `ban-ptb` at 64 units, on 60,000 words of which 1,000 are told apart: half a
    minute a net on one core.

    All other words are <unk>, so a perplexity here is that of a far easier text. BAN+L's gradient
    is that of the words and that of the teacher added up, about twice as large as the words' alone:
    `--arm teacher --lr 1` trains words alone with such steps. The learning rate, 0.5 of 0.5 and 1,
    and when it is halved were chosen by the validation perplexity of one teacher (seed 100), those
    of the CNN-LSTM of 0.125 to 1.
    """
    return ban_ptb().with_changes(recipe="ban-ptb-tiny", **_TINY)


def _of_table_6(net: str) -> tuple[str, str, dict[str, str]]:
    """The published number of a net, of its teacher, and of the rows of their chain."""
    (teacher, teacher_valid), (ban, valid) = TABLE_6[net]
    source = f"({PAPER}, table 6)"
    return (
        f"{ban} test perplexity, {valid} validation; teacher {teacher}, {teacher_valid} {source}",
        f"{teacher} test perplexity, {teacher_valid} validation {source}",
        cells(6, {"teacher": (teacher,), "1": (ban,)}),
    )


_LSTM, _LSTM_TEACHER, _LSTM_ROWS = _of_table_6("lstm")
_CNN_LSTM, _CNN_TEACHER, _CNN_ROWS = _of_table_6("cnn-lstm")

PAGES = {
    "ban-ptb": Page(
        ban_ptb,
        _LSTM,
        {
            "teacher": Arm({"method": "plain"}, _LSTM_TEACHER),
            "cnn-lstm": Arm(_CNN, _CNN_LSTM, _CNN_ROWS),
            "cnn-lstm-teacher": Arm({**_CNN, "method": "plain"}, _CNN_TEACHER),
            "ban": Arm({"label_weight": 0.0}, rows={"teacher": _LSTM_ROWS["teacher"]}),
            "small": Arm(_SMALL),
        },
        _LSTM_ROWS,
    ),
    "ban-ptb-small": Page(
        ban_ptb_small, "-", {"teacher": Arm({"method": "plain"}), "ban": Arm({"label_weight": 0.0})}
    ),
    "ban-ptb-tiny": Page(
        ban_ptb_tiny,
        "-",
        {
            "teacher": Arm({"method": "plain"}),
            "ban": Arm({"label_weight": 0.0}),
            "cnn-lstm": Arm(_TINY_CNN),
            "cnn-lstm-teacher": Arm({**_TINY_CNN, "method": "plain"}),
        },
    ),
}
