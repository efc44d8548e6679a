"""A table of a few seconds: two parts, one pool, on digits with a small net."""

from datadistill.config import DistillConfig, PoolConfig
from datadistill.reproduce.plan import Measurement, Part, Plan, TableRow
from datadistill.studies.table import Published

NET = {"net": "mlp", "net_args": {"width": 8}}
POOL = PoolConfig(
    recipe="a-pool",
    dataset="digits",
    nets=2,
    validation_nets=1,
    held_out=2,
    epochs=1,
    batch=256,
    lr=0.01,
    **NET,
)
FRESH = DistillConfig(
    recipe="fresh",
    dataset="digits",
    theta_0="random",
    ipc=1,
    steps=1,
    epochs=2,
    images_from="real",
    iterations=3,
    batch=32,
    validate_every=3,
    validate_nets=1,
    **NET,
)
ADAPTED = FRESH.with_changes(recipe="adapted", pool="a-pool", source="digits")


def part(name, config, pools=None, arguments=None):
    return Part(
        name,
        f"Digits, {name}",
        pools=pools or {},
        sets={f"set-{name}": config},
        measurements=(Measurement("m", "ours", (f"set-{name}",), arguments or {"nets": 2}),),
        rows=(
            TableRow("before training", "m", "before"),
            TableRow("ours", "m", "ours", {"accuracy": Published(79.5, 8.1, "table 9")}, ours=True),
        ),
    )


def plan(arguments=None, **changes):
    parts = (part("fresh", FRESH, arguments=arguments), part("adapted", ADAPTED, {"a-pool": POOL}))
    return Plan("table9", "smoke", "Table 9: a small one", parts).with_changes(sets=changes)
