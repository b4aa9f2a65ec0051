"""The whole configuration of a run, checked before any job starts, and the messages on its faults."""

from datetime import date
from difflib import get_close_matches
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from regagent.files import UserError
from regagent.methods import (
    CONVENTIONAL,
    FINE,
    LOOKAHEAD,
    MEMORYLESS,
    NETWORKS,
    REFINED,
    VARIANT_NAME,
    VOLUME_METHODS,
    variant_of,
)
from regagent.settings.base import Model, Seed, models
from regagent.settings.pairs import Perturbations, Slices
from regagent.settings.patients import Cohort, Phantom, Preregistration, Split
from regagent.settings.registration import Baselines, Calibration, Inference
from regagent.settings.variants import (
    Agent,
    CubeRegressor,
    CubeSettings,
    FinisherSettings,
    PlaneMatching,
    Pretrained,
    Regressor,
    Variant,
)
from regagent.settings.volumes import Volumes

#: What YAML may make of text without quotes. A bool is an int too, and so comes first.
NOT_TEXT: dict[type | tuple[type, ...], str] = {bool: "truth value", (int, float): "number", date: "date"}


def _distinct(values: list) -> list:
    if len(set(values)) < len(values):
        raise ValueError("an entry stands there twice")
    return values


class Settings(Model):
    """The whole configuration of a run."""

    run: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] = "default"
    """Name of the run, of letters, digits, `-` and `_`. Results are in `results/{run}/`."""

    deterministic: bool = False
    """`true` gives the same tables, slices and weights to the last bit on the same machine: one worker a
    training, PyTorch's deterministic algorithms, and times written as 0. With `false` the times differ, and
    so do trainings of several workers or on a GPU."""

    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_distinct)] = [1]
    """Each variant is trained once for each seed. Table 2 gives the mean over the seeds and their spread."""

    cohort: Cohort = Cohort()
    """Which patients are registered."""

    phantom: Phantom = Phantom()
    """How patients are simulated."""

    preregistration: Preregistration = Preregistration()
    """Alignment of MR and CT in 3D."""

    slices: Slices = Slices()
    """Which slices are cut, and their landmarks and evaluation points."""

    split: Split = Split()
    """Which patients train and which are tested."""

    perturbations: Perturbations = Perturbations()
    """How slices are perturbed."""

    variants: dict[str, Variant]
    """What is trained: a name of your own and its settings."""

    methods: Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)]
    """Rows of Table 2 in their order. A row is `Initial`, `SIFT`, `Elastix`, one of the three that are not in
    the paper (`Multistart-Elastix`, `MI-search`, `SimpleITK`, see `baselines`) or the name of a variant. An
    agent's name with `-MC` adds the look-ahead. With `-memoryless`, which needs the network `CNN-LSTM`, the
    agent's memory is emptied before every step. With `-fine`, the one variant whose `learner` is `residual`
    finishes the agent; an agent from another run brings its own. Any name with `+Elastix` adds a local
    Elastix registration from that method's poses."""

    wide_methods: Annotated[list[str], AfterValidator(_distinct)] = []
    """Rows of Table 2 that also register the set `perturbations.wide`. A figure shows how often each succeeds
    against the rotation of the start. Without any, there is no such figure."""

    slow_methods: Annotated[list[str], AfterValidator(_distinct)] = []
    """Rows of Table 2 that register only the first `perturbations.slow_per_slice` perturbations of a slice:
    for a run whose cases would take them hours. Table 2 tells the number of their cases, on which they are
    compared with the other rows. An agent with and without look-ahead registers the same cases."""

    calibration: Calibration = Calibration()
    """How stop thresholds are found, and what predicted distances are worth."""

    inference: Inference = Inference()
    """How trained agents register."""

    baselines: Baselines = Baselines()
    """The conventional methods."""

    volumes: Volumes = Volumes()
    """How whole volumes are registered in space, and tested."""

    @model_validator(mode="after")
    def _knows_the_truth_it_takes(self) -> "Settings":
        if self.preregistration.method == "truth" and self.cohort.source != "simulated":
            raise ValueError(
                "preregistration.method: 'truth' is for simulated patients; a sheet gives known alignments in"
                " its column 'transform'"
            )
        return self

    @model_validator(mode="after")
    def _names_its_variants(self) -> "Settings":
        for name in self.variants:
            ends = name.endswith((LOOKAHEAD, MEMORYLESS, FINE))
            if name in CONVENTIONAL or ends or not VARIANT_NAME.fullmatch(name):
                raise ValueError(
                    f"variants: {name!r}: expected letters, digits, - and _, no ending {LOOKAHEAD},"
                    f" {MEMORYLESS} or {FINE} (they say how an agent registers) and none of"
                    f" {', '.join(CONVENTIONAL)}"
                )
        return self

    @model_validator(mode="after")
    def _knows_its_methods(self) -> "Settings":
        finishers = [name for name, one in self.variants.items() if isinstance(one, FinisherSettings)]
        for method in self.methods:
            start = method.removesuffix(REFINED)
            if start in CONVENTIONAL:
                continue
            variant = self.variants.get(variant_of(method))
            if variant is None:
                known = ", ".join([*CONVENTIONAL, *self.variants])
                raise ValueError(
                    f"methods: unknown variant {method!r}; known are {known}, agents also with {LOOKAHEAD},"
                    f" {MEMORYLESS} or {FINE}, and all of them with {REFINED}"
                )
            if isinstance(variant, CubeSettings):
                raise ValueError(f"methods: {method!r} registers volumes: it belongs into volumes.networks")
            if start.endswith((LOOKAHEAD, FINE)) and isinstance(variant, Regressor | FinisherSettings):
                raise ValueError(f"methods: {method!r}: a regressor has no {LOOKAHEAD} and no {FINE}")
            if start.endswith(FINE) and not isinstance(variant, Pretrained) and len(finishers) != 1:
                raise ValueError(
                    f"methods: {method!r}: expected one variant whose learner is 'residual' or 'matching',"
                    f" found {', '.join(finishers) or 'none'}"
                )
            if start.endswith(MEMORYLESS) and getattr(variant, "network", None) != "CNN-LSTM":
                raise ValueError(
                    f"methods: {method!r}: only an agent that this run trains with the network CNN-LSTM has"
                    " a memory to empty"
                )
        return self

    @model_validator(mode="after")
    def _knows_its_volume_networks(self) -> "Settings":
        kinds = [type(self.variants.get(name)) for name in self.volumes.networks]
        if kinds and (set(kinds[:-1]), kinds[-1]) != ({CubeRegressor}, PlaneMatching):
            raise ValueError(
                f"volumes.networks: found {', '.join(self.volumes.networks)}, expected variants whose learner"
                " is 'cubes', and last one whose learner is 'planes'"
            )
        size = self.volumes.cubes.size
        for name, variant in self.variants.items():
            if isinstance(variant, CubeRegressor) and size % variant.shrink:
                raise ValueError(
                    f"variants.{name}.shrink: found {variant.shrink}, expected a divisor of"
                    f" volumes.cubes.size, {size}"
                )
        for method in self.volumes.methods:
            start = method.removesuffix(REFINED)
            if start not in VOLUME_METHODS:
                raise ValueError(
                    f"volumes.methods: unknown {method!r}; known are {', '.join(VOLUME_METHODS)}, also with"
                    f" {REFINED}"
                )
            if start == NETWORKS and bool(self.volumes.networks) == bool(self.volumes.model):
                raise ValueError(
                    f"volumes.methods: {method!r} needs volumes.networks, or volumes.model instead"
                )
        starts = {method.removesuffix(REFINED) for method in self.volumes.methods}
        for method in self.volumes.slow_methods:
            if method not in starts | {*self.volumes.methods}:
                raise ValueError(f"volumes.slow_methods: {method!r} is none of volumes.methods")
        return self

    @model_validator(mode="after")
    def _tests_its_rows_only(self) -> "Settings":
        for key in ("wide_methods", "slow_methods"):
            for method in getattr(self, key):
                if method not in self.methods:
                    raise ValueError(f"{key}: {method!r} is none of the methods")
        for method in self.methods:
            start = method.removesuffix(REFINED)
            for slow in () if method in self.slow_methods else self.slow_methods:
                if start.removesuffix(LOOKAHEAD) == slow.removesuffix(LOOKAHEAD):
                    raise ValueError(f"slow_methods: {method!r} needs {slow!r} and so belongs there too")
        return self


def load(config: dict) -> Settings:
    """Check a configuration as read from YAML. Raises ``UserError`` naming each faulty key.

    A variant that is null is left out. In this way an overlay drops a variant of ``config.yaml``.
    """
    if isinstance(config.get("variants"), dict):
        variants = {name: keys for name, keys in config["variants"].items() if keys is not None}
        config = {**config, "variants": variants}
    try:
        settings = Settings.model_validate(config)
    except ValidationError as error:
        raise UserError(*map(_message, error.errors())) from error
    return _deterministic(settings) if settings.deterministic else settings


def _deterministic(settings: Settings) -> Settings:
    """Return the settings with one worker for each training, which plays the episodes of all workers."""
    variants = {
        name: variant.model_copy(
            update={"workers": 1, "environments": variant.workers * variant.environments}
        )
        if isinstance(variant, Agent)
        else variant
        for name, variant in settings.variants.items()
    }
    return settings.model_copy(update={"variants": variants})


def _message(fault: ErrorDetails) -> str:
    """Return one line about a fault that pydantic found: the key, what is wrong, what was found."""
    # After a variant's name pydantic puts its learner, which is no key of the configuration.
    path = [part for i, part in enumerate(fault["loc"]) if not (i == 2 and fault["loc"][0] == "variants")]
    where = f"config: {'.'.join(map(str, path))}" if path else "config"
    if fault["type"] == "value_error":
        return f"{where}: {fault['ctx']['error']}"
    if fault["type"] == "extra_forbidden":
        keys = {key for model in models() for key in model.model_fields}
        near = _elsewhere(str(path[-1])) or get_close_matches(str(path[-1]), keys, n=1)
        return f"{where}: no such key" + (f"; did you mean {near[0]!r}?" if near else "")
    if fault["type"] == "missing":
        return f"{where}: this key is required"
    for types, kind in NOT_TEXT.items():
        if fault["type"] == "string_type" and isinstance(fault["input"], types):
            return (
                f"{where}: expected text, found the {kind} {fault['input']};"
                " put it into quotes in a settings file (--config drops quotes)"
            )
    return f"{where}: {fault['msg']} (found {fault['input']!r})"


def _elsewhere(key: str) -> list[str]:
    """Return the full names of a key that stands in other sections than the one where it was found."""
    sections = {name: field.annotation for name, field in Settings.model_fields.items()}
    return [
        f"{name}.{key}"
        for name, model in sections.items()
        if isinstance(model, type) and issubclass(model, Model) and key in model.model_fields
    ]
