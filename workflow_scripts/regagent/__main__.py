"""Runs the command as ``python -m regagent``."""

import sys

from regagent.command.main import main

sys.exit(main())
