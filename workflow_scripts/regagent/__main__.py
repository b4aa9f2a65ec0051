"""``python -m regagent``: the command."""

import sys

from regagent.command.main import main

sys.exit(main())
