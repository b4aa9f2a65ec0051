"""``python -m regagent``: the command."""

import sys

from regagent.command import main

sys.exit(main())
