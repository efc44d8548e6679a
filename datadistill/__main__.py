"""`python -m datadistill` is `datadistill`."""

from datadistill.cli import main

raise SystemExit(main())
