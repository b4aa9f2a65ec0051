"""The base model of the configuration's sections, and the types of values that several of them use."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from regagent.files import UserError, parameter_map

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if not bounds[0] < bounds[1]:
        raise ValueError("expected [low, high] with low below high")
    return bounds


def _not_falling(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("expected [low, high] with low not above high")
    return bounds


def _known_map(name: str) -> str:
    try:
        parameter_map(name)
    except UserError as error:
        raise ValueError(str(error)) from error
    return name


Range = Annotated[tuple[float, float], AfterValidator(_rising)]
ScaleRange = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_not_falling)]
ParameterMap = Annotated[str, AfterValidator(_known_map)]


class Model(BaseModel):
    """A part of the configuration. Unknown keys are refused, and values cannot be changed.

    The docstring below a key is its description, which config/README.md and config/schema.json show.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def models() -> list[type[Model]]:
    """Return every model of the configuration, subclasses after what they inherit from."""
    found: list[type[Model]] = [Model]
    for model in found:
        found.extend(model.__subclasses__())
    return found
