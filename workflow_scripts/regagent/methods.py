"""The names of the methods in Table 2: what they stand for, and which of them the figures show (§4, §5)."""

import re
from dataclasses import dataclass

#: The methods without learning, by name.
CONVENTIONAL = ("Initial", "SIFT", "Elastix", "Multistart-Elastix", "MI-search", "SimpleITK")
#: The row of the table with the errors before any registration. It is not ranked with the methods.
UNREGISTERED = "Initial"
#: The end of the name of an agent that looks ahead where it stops (§3.6).
LOOKAHEAD = "-MC"
#: The end of the name of an agent without look-ahead whose memory is emptied before every step (§5.1).
MEMORYLESS = "-memoryless"
#: The end of the name of an agent without look-ahead that a residual regressor finishes.
FINE = "-fine"
#: The end of the name of a method whose result is refined by a local Elastix registration.
REFINED = "+Elastix"
#: The method that the paper proposes.
PROPOSED = "RL-LME-MC"

#: The rows of the table of volumes: without registration, the middles of both heads on each other, 3D
#: Elastix, SimpleITK from all sides, two other tools, and the networks of space. Each may be refined.
NETWORKS = "Networks"
VOLUME_METHODS = (
    UNREGISTERED, "Centres", "Elastix", "Multistart-SimpleITK", "Greedy", "NeuroReg", NETWORKS
)  # fmt: skip

#: The family of the methods that are no agents. Figures of all methods have one panel for each family.
NO_AGENT = "without an agent"

#: The columns of Figure 4, after the truth.
FIGURE4_METHODS = ("Elastix", "SL-matrix", PROPOSED, "pure-SL")

VARIANT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Panel:
    """A panel of Figure 5: two variants compared by a column of their training.csv."""

    column: str
    label: str
    variants: tuple[str, str]


FIGURE5_PANELS = {
    "a": Panel("steps", "steps an episode", ("RL-LME", "CNN-LME")),
    "b": Panel("reward", "cumulative reward", ("RL-LME", "CNN-LME")),
    "c": Panel("steps", "steps an episode", ("CNN-matrix", "CNN-LME")),
    "d": Panel("reward", "cumulative reward", ("CNN-matrix", "CNN-LME")),
}


def variant_of(method: str) -> str:
    """Return the name of the variant, or of the conventional method, at the start of a method's name."""
    return re.sub(f"({LOOKAHEAD}|{MEMORYLESS}|{FINE})$", "", method.removesuffix(REFINED))


def label_of(method: str) -> str:
    """Return the name of a method as the paper prints it."""
    return {"pure-SL": "Pure SL", "pure-SL-iterated": "Pure SL, iterated"}.get(method, method)
