"""`python -m datadistill.cli` is `datadistill`."""

from datadistill.cli.dispatch import main

raise SystemExit(main())
