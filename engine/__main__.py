"""`python -m engine` is `iqagpt`."""

from .cli import main

raise SystemExit(main())
