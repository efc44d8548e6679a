"""`python -m kd_baselines` is `kd-baselines`."""

from kd_baselines.cli import main

raise SystemExit(main())
