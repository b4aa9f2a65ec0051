"""Methods: what the name of a row of Table 2 stands for, and which of them the figures show (§4, §5)."""

import re

#: The methods that learn nothing, by name.
CONVENTIONAL = ("Initial", "SIFT", "Elastix", "Multistart-Elastix", "MI-search", "SimpleITK")
#: The error before any registration: a row of the table that competes with none.
UNREGISTERED = "Initial"
#: Ends the name of an agent that looks ahead where it stops (§3.6).
LOOKAHEAD = "-MC"
#: Ends the name of a method whose result a local Elastix registration finishes.
REFINED = "+Elastix"
#: The family of the methods that are no agents; figures that compare all methods have a panel a family.
NO_AGENT = "without an agent"
#: The method that the paper proposes.
PROPOSED = "RL-LME-MC"

VARIANT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def variant_of(method: str) -> str:
    """Return the name of the variant, or of the conventional method, that a method's name begins with."""
    return method.removesuffix(REFINED).removesuffix(LOOKAHEAD)


def label_of(method: str) -> str:
    """Return the name of a method as the paper prints it."""
    return {"pure-SL": "Pure SL"}.get(method, method)
