"""The agent that comes with the software: an agent file with its weights in half precision."""

import argparse
import sys

import torch

from regagent.agent.agent_file import load_agent
from regagent.agent.checkpoints import save
from regagent.files import UserError


def release(agent: str, output: str) -> None:
    """Write an agent file anew, half as large. Raises ``UserError`` as ``load_agent``."""
    load_agent(agent)
    content = torch.load(agent, map_location="cpu", weights_only=True)
    for part in ("weights", "finisher"):
        content[part] = {name: weights.half() for name, weights in content[part].items()}
    save(content, output)
    load_agent(output)  # half precision ends at 65 504


def main() -> None:
    """Write the agent of a run in half precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("agent", help="an agent file of a run")
    parser.add_argument("output", help="the file to write")
    try:
        release(**vars(parser.parse_args()))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
