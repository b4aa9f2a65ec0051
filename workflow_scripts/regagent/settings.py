"""The configuration: every key with its type, range and default, checked before any job starts."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from regagent.files import UserError, parameter_map
from regagent.methods import CONVENTIONAL, LOOKAHEAD, REFINED, VARIANT_NAME, variant_of

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if not bounds[0] < bounds[1]:
        raise ValueError("expected [low, high] with low below high")
    return bounds


def _distinct(values: list) -> list:
    if len(set(values)) < len(values):
        raise ValueError("an entry stands there twice")
    return values


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
    """A part of the configuration: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Cohort(Model):
    """Who is registered: simulated patients, or the rows of a sample sheet."""

    source: Literal["simulated", "sheet"] = "simulated"
    patients: Annotated[int, Field(ge=2, le=999)] = 25
    seed: Seed = 2018
    sheet: str | None = None

    @model_validator(mode="after")
    def _has_sheet(self) -> "Cohort":
        if (self.source == "sheet") != (self.sheet is not None):
            raise ValueError("source 'sheet' and the key 'sheet' (its path) go together")
        return self


class Phantom(Model):
    """The simulated patients (§4 gives the resolutions)."""

    spacing_mr_mm: PositiveFloat = 1.0
    max_translation_mm: NonNegative = 10.0
    max_rotation_deg: NonNegative = 8.0
    mr_noise: NonNegative = 0.04
    bias_field: NonNegative = 0.25
    ct_noise_hu: NonNegative = 12.0
    metal_fraction: Fraction = 0.3


class Preregistration(Model):
    """3D Elastix with MR fixed and CT moving (§4)."""

    method: Literal["elastix", "none"] = "elastix"
    parameter_map: ParameterMap = "rigid3d"
    minimum_overlap: Fraction = 0.75
    thick_slice_mm: PositiveFloat = 4.0


class Slices(Model):
    """The slice pairs of a patient, their landmarks and evaluation points (§3.3, §4)."""

    count: Positive = 6
    size: Annotated[int, Field(ge=64, multiple_of=4)] = 168
    ct_window_hu: Range = (-200.0, 1000.0)
    mr_percentiles: Range = (1.0, 99.5)
    minimum_gap_mm: NonNegative = 9.0
    minimum_head_fraction: Fraction = 0.12
    landmarks_minimum: Positive = 8
    landmarks_maximum: Positive = 64
    grid_spacing_px: Positive = 12


class Split(Model):
    """The split by patient (§4: 79 of 99 for training)."""

    train_fraction: Annotated[float, Field(gt=0, lt=1)] = 79 / 99
    seed: Seed = 1


class PerturbationRange(Model):
    """A uniform distribution on a lattice of perturbations (§4)."""

    translation_px: NonNegative
    translation_step_px: PositiveFloat = 1.0
    rotation_deg: NonNegative
    rotation_step_deg: PositiveFloat = 1.0
    scale: ScaleRange = (0.75, 1.25)
    scale_step: PositiveFloat = 0.05


class Perturbations(Model):
    """The two sets of perturbed test pairs (§4); training starts are drawn from E1's range."""

    per_slice: Positive = 8
    seed: Seed = 7
    E1: PerturbationRange = PerturbationRange(translation_px=25, rotation_deg=30)
    E2: PerturbationRange = PerturbationRange(translation_px=30, rotation_deg=45)


class Augmentation(Model):
    """Random variations of the training pairs, against over-fitting to few patients.

    The amounts are the ends of uniform distributions about no change; ``scale``, ``anisotropy``, ``gamma``
    and ``gain`` are logarithms of factors.
    """

    enabled: bool = True
    mirror: Fraction = 0.5
    rotation_deg: NonNegative = 10.0
    shift_px: NonNegative = 8.0
    scale: NonNegative = 0.1
    anisotropy: NonNegative = 0.1
    deformation_px: NonNegative = 3.0
    gamma: NonNegative = 0.3
    gain: NonNegative = 0.2
    bias: NonNegative = 0.2
    blur: Fraction = 1.0
    noise: NonNegative = 0.03


class Agent(Model):
    """What the reinforcement-learning and the supervised agents share: network, episode, optimiser."""

    network: Literal["CNN-LSTM", "CNN"] = "CNN-LSTM"
    distance: Literal["LME", "matrix"] = "LME"
    matrix_scale_weight: PositiveFloat = 20.0
    steps: Positive = 400_000
    workers: Positive = 1
    environments: Positive = 64
    unroll: Positive = 3
    episode_steps: Positive = 100
    episodes_per_pair: Positive = 2
    exploring_starts: Fraction = 0.75
    terminal_distance: PositiveFloat = 1.0
    terminal_reward: float = 10.0
    learning_rate: PositiveFloat = 1.3e-3
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5
    warmup_fraction: Fraction = 0.06
    final_learning_rate_fraction: Fraction = 0.1
    gradient_clip: PositiveFloat = 0.5
    rescale_values: bool = True
    terminal_value_weight: NonNegative = 0.25
    stopping_discount: Fraction = 0.95
    stopping_weight: NonNegative = 0.1
    augmentation: Augmentation = Augmentation()
    checkpoint_seconds: PositiveFloat = 60.0

    @property
    def values(self) -> int:
        """How many values the network has (see ``networks.AgentNetwork``)."""
        return 1


class ReinforcementAgent(Agent):
    """An agent trained by A3C (§3.4)."""

    learner: Literal["reinforcement"]
    reward: Literal["potential", "paper"] = "potential"
    reward_scale: PositiveFloat = 0.3
    discount: Fraction = 0.7
    trace_decay: Fraction = 0.7
    value_weight: NonNegative = 0.05
    normalise_advantages: bool = True
    entropy_weight: NonNegative = 0.01

    @property
    def values(self) -> int:
        """The critic of the shaped reward and the value to stop by, or one that serves both."""
        return 2 if self.reward == "potential" else 1


class SupervisedAgent(Agent):
    """An agent that is shown the best action of each step (§3.5)."""

    learner: Literal["supervised"]


class Regressor(Model):
    """Pure SL: one network, one shot (§4)."""

    learner: Literal["regression"]
    steps: Positive = 6_000
    batch: Positive = 32
    learning_rate: PositiveFloat = 1e-3
    augmentation: Augmentation = Augmentation()
    checkpoint_seconds: PositiveFloat = 60.0


class Pretrained(Model):
    """An agent that was trained in another run: its file agent.pt."""

    learner: Literal["pretrained"]
    model: str


Variant = Annotated[
    ReinforcementAgent | SupervisedAgent | Regressor | Pretrained, Field(discriminator="learner")
]


def variant(settings: Mapping) -> Variant:
    """Check one entry of ``variants``, given as plain values."""
    return TypeAdapter(Variant).validate_python(settings)


class Calibration(Model):
    """The stop rule: the threshold on the value is found on training pairs (§3.6)."""

    cases: Positive = 96
    steps: Positive = 150
    candidates: Positive = 25
    lookahead_candidates: Positive = 5
    minimum_stopped: Fraction = 0.97
    seed: Seed = 11


class Inference(Model):
    """Greedy steps until the value reaches the threshold, then the look-ahead (§3.6)."""

    maximum_steps: Positive = 500
    simulations: Positive = 20
    depth: Positive = 10
    batch: Positive = 256
    seed: Seed = 13


class Search(Model):
    """The grid of poses among which the highest mutual information is searched."""

    translation_px: NonNegative = 30.0
    translation_step_px: Annotated[float, Field(ge=2)] = 6.0
    rotation_deg: NonNegative = 45.0
    rotation_step_deg: PositiveFloat = 5.0
    scale: ScaleRange = (0.75, 1.25)
    scale_step: PositiveFloat = 0.1
    bins: Annotated[int, Field(ge=3)] = 8
    candidates: Positive = 10


class Baselines(Model):
    """The conventional methods of Table 2, and further ones that are not in the paper."""

    elastix_parameter_map: ParameterMap = "similarity2d"
    refinement_parameter_map: ParameterMap = "refine2d"
    multistart_parameter_map: ParameterMap = "multistart2d"
    multistart_rotations_deg: Annotated[list[float], Field(min_length=1)] = [-30.0, 0.0, 30.0]
    multistart_scales: Annotated[list[PositiveFloat], Field(min_length=1)] = [1.0]
    search: Search = Search()
    sift_ratio: Annotated[float, Field(gt=0, le=1)] = 0.8
    sift_minimum_matches: Annotated[int, Field(ge=2)] = 4


class Settings(Model):
    """The whole configuration of a run."""

    deterministic: bool = False
    run: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] = "default"
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_distinct)] = [1]
    cohort: Cohort = Cohort()
    phantom: Phantom = Phantom()
    preregistration: Preregistration = Preregistration()
    slices: Slices = Slices()
    split: Split = Split()
    perturbations: Perturbations = Perturbations()
    variants: dict[str, Variant]
    methods: Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)]
    calibration: Calibration = Calibration()
    inference: Inference = Inference()
    baselines: Baselines = Baselines()

    @model_validator(mode="after")
    def _names_its_variants(self) -> "Settings":
        for name in self.variants:
            if name in CONVENTIONAL or name.endswith(LOOKAHEAD) or not VARIANT_NAME.fullmatch(name):
                raise ValueError(
                    f"variants: {name!r}: expected letters, digits, - and _, no ending -MC (it means the"
                    f" look-ahead) and none of {', '.join(CONVENTIONAL)}"
                )
        return self

    @model_validator(mode="after")
    def _knows_its_methods(self) -> "Settings":
        for method in self.methods:
            start = method.removesuffix(REFINED)
            if start in CONVENTIONAL:
                continue
            variant = self.variants.get(variant_of(method))
            if variant is None:
                known = ", ".join([*CONVENTIONAL, *self.variants])
                raise ValueError(
                    f"methods: unknown variant {method!r}; known are {known}, agents also with -MC,"
                    f" and all of them with {REFINED}"
                )
            if start.endswith(LOOKAHEAD) and isinstance(variant, Regressor):
                raise ValueError(f"methods: {method!r}: a regressor has no look-ahead")
        return self


def load(config: dict) -> Settings:
    """Check a configuration as read from YAML. Raises ``UserError`` naming each faulty key.

    A variant that is null is left out: so an overlay drops one that stands in ``config.yaml``.
    """
    if isinstance(config.get("variants"), dict):
        variants = {name: keys for name, keys in config["variants"].items() if keys is not None}
        config = {**config, "variants": variants}
    try:
        settings = Settings.model_validate(config)
    except ValidationError as error:
        raise UserError("\n".join(map(_message, error.errors()))) from error
    return _deterministic(settings) if settings.deterministic else settings


def _deterministic(settings: Settings) -> Settings:
    """Return the settings with one worker a training, which gets the episodes of all of them."""
    variants = {
        name: variant.model_copy(
            update={"workers": 1, "environments": variant.workers * variant.environments}
        )
        if isinstance(variant, Agent)
        else variant
        for name, variant in settings.variants.items()
    }
    return settings.model_copy(update={"variants": variants})


def _message(fault: dict) -> str:
    """Return one line on a fault that pydantic found: the key, what is wrong, what was found."""
    # The learner that pydantic puts after a variant's name to tell the models apart is no key.
    path = [part for i, part in enumerate(fault["loc"]) if not (i == 2 and fault["loc"][0] == "variants")]
    where = f"config: {'.'.join(map(str, path))}" if path else "config"
    if fault["type"] == "value_error":
        return f"{where}: {fault['ctx']['error']}"
    if fault["type"] == "extra_forbidden":
        near = get_close_matches(str(path[-1]), _known_keys(), n=1)
        return f"{where}: no such key" + (f"; did you mean {near[0]!r}?" if near else "")
    if fault["type"] == "missing":
        return f"{where}: this key is required"
    return f"{where}: {fault['msg']} (found {fault['input']!r})"


def _known_keys() -> set[str]:
    models: list[type[Model]] = [Model]
    keys: set[str] = set()
    for model in models:
        models.extend(model.__subclasses__())
        keys |= set(model.model_fields)
    return keys
