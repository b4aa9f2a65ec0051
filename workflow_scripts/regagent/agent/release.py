"""What comes with the software: an agent file, and networks of volumes, their weights in half precision."""

import argparse
import sys

import torch

from regagent.agent.agent_file import load_agent
from regagent.agent.checkpoints import holds, save
from regagent.files import UserError


def release(model: str, output: str) -> None:
    """Write an agent file or that of networks of volumes anew, half as large.

    Raises ``UserError`` as ``load_agent``.
    """
    if not holds(model, "space"):
        load_agent(model)
    content = torch.load(model, map_location="cpu", weights_only=True)
    for part in {"weights", "finisher"} & content.keys():
        content[part] = {name: weights.half() for name, weights in content[part].items()}
        if not all(torch.isfinite(weights).all() for weights in content[part].values()):
            raise UserError(
                f"{model}: holds weights that are not finite in half precision, which ends at 65504"
            )
    save(content, output)


def main() -> None:
    """Write the agent, or the networks, of a run in half precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="an agent file of a run, or its space.pt")
    parser.add_argument("output", help="the file to write")
    try:
        release(**vars(parser.parse_args()))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
