"""Outer methods: how real data pull on a synthetic set. One paper family a file, and a line in
`METHODS`."""

from datadistill.methods.base import OuterMethod as OuterMethod
from datadistill.methods.unrolled import Unrolled as Unrolled

METHODS: dict[str, type[OuterMethod]] = {"unrolled": Unrolled}
