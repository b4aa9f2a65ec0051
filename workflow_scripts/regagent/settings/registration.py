"""The settings of the registration: how agents stop and look ahead, and the conventional methods."""

from typing import Annotated, Literal

from pydantic import Field

from regagent.settings.base import (
    Fraction,
    Model,
    NonNegative,
    ParameterMap,
    Positive,
    PositiveFloat,
    ScaleRange,
    Seed,
)


class Calibration(Model):
    """What is found on training pairs after a training: an agent's stop threshold (§3.6), and what the
    distance is worth that a network predicts."""

    cases: Positive = 96
    """Number of perturbed pairs."""

    steps: Positive = 150
    """Number of steps that the agent walks on each pair."""

    candidates: Positive = 25
    """Number of thresholds tried for greedy stopping."""

    lookahead_candidates: Positive = 5
    """Number of thresholds tried with the look-ahead, which costs more."""

    minimum_stopped: Fraction = 0.8
    """The highest threshold tried is the one at which this fraction of the cases still stops."""

    tolerance: Fraction = 0.02
    """Of the thresholds whose mean error is higher than the lowest by no more than this part, the lowest is
    chosen: more cases reach it, and sooner."""

    trust_cases: Annotated[int, Field(ge=50)] = 512
    """Number of pairs, every second of which does not belong together, on which it is found what the distance
    is worth that a network predicts."""

    distance_cases: Annotated[int, Field(ge=32)] = 4096
    """Number of pairs before these, every second of which does not belong together, on which a network of
    matching learns to predict the distance."""

    refused: Fraction = 0.05
    """A case is refused where the D that a network predicts says that it more likely lies beyond
    2 px of the truth than within, unless that would refuse more than this fraction of the pairs within 2 px:
    then the chance that it must have is lower."""

    seed: Seed = 11
    """Seed of the random cases."""


class Inference(Model):
    """Greedy steps until the value reaches the threshold, then the look-ahead (§3.6)."""

    maximum_steps: Positive = 500
    """A case that has not stopped after this many steps (§4) goes back to where its value was highest, and
    the table counts it."""

    idle_steps: Positive | None = 20
    """A case that has met no new pose in this many steps goes in circles, and ends so too. `null`: it goes on
    to `maximum_steps`, as in the paper."""

    simulations: Positive = 20
    """Number of rollouts of the look-ahead (§4)."""

    depth: Positive = 10
    """Number of steps of a rollout (§4)."""

    rounds: Positive = 4
    """Number of look-aheads, each from where the last one ended; the paper has one. Every second one sees the
    pair mirrored left to right, and the pose is the mean of the last two."""

    weights: Literal["guarded", "paper"] = "guarded"
    """How the rollouts are averaged. `paper`: Eq. 5 as it stands. A path's V counts the state that the
    rollouts start from, and where the V have both signs the pose may lie anywhere. `guarded`: V without that
    state, counted from the lowest V unless all are positive, so that the pose lies among the paths' ends."""

    looks: Positive = 10
    """Number of looks by which a residual regressor registers, each from where the last one saw the truth;
    every second one is at the pair mirrored left to right. A network of matching looks at most so often at
    either resolution."""

    lost_px: PositiveFloat = 1.0
    """Where the lowest D that it predicts is above this, in px, it starts again from other rotations."""

    restarts_deg: list[float] = [30.0, -30.0, 60.0, -60.0, 90.0, -90.0]
    """Rotations of these further starts in degrees, one after the other. The lowest predicted D counts."""

    batch: Positive = 256
    """Number of cases that are registered side by side."""

    seed: Seed = 13
    """Seed of the look-ahead's draws."""


class Search(Model):
    """The grid of poses among which the highest mutual information is searched."""

    translation_px: NonNegative = 30.0
    """Largest shift along x and along y, in px."""

    translation_step_px: Annotated[float, Field(ge=2)] = 6.0
    """Step of the shifts in px, at least 2. The images are first shrunk to pixels of this width."""

    rotation_deg: NonNegative = 45.0
    """Largest rotation in degrees."""

    rotation_step_deg: PositiveFloat = 5.0
    """Step of the rotations in degrees."""

    scale: ScaleRange = (0.75, 1.25)
    """Smallest and largest scale factor."""

    scale_step: PositiveFloat = 0.1
    """Step of the scale factors."""

    bins: Annotated[int, Field(ge=3)] = 8
    """Number of levels of intensity in the joint histogram."""

    candidates: Positive = 10
    """Number of the best poses that are tried again with their neighbours at half the steps."""


class Baselines(Model):
    """The conventional methods of Table 2, and further ones that are not in the paper."""

    elastix_parameter_map: ParameterMap = "similarity2d"
    """Elastix parameter map of the 2D similarity registration."""

    refinement_parameter_map: ParameterMap = "refine2d"
    """Elastix parameter map of the methods that end in `+Elastix`."""

    multistart_parameter_map: ParameterMap = "multistart2d"
    """Elastix parameter map of each start of `Multistart-Elastix`."""

    multistart_rotations_deg: Annotated[list[float], Field(min_length=1)] = [-30.0, 0.0, 30.0]
    """Rotations in degrees of the starts of `Multistart-Elastix`: each of these with each of the scales. The
    result of the highest mutual information is kept. The time grows with the number of starts."""

    multistart_scales: Annotated[list[PositiveFloat], Field(min_length=1)] = [1.0]
    """Scale factors of the starts of `Multistart-Elastix`."""

    search: Search = Search()
    """The grid of poses of `MI-search`."""

    sift_ratio: Annotated[float, Field(gt=0, le=1)] = 0.8
    """A SIFT match counts if its distance is less than this fraction of the second best's."""

    sift_minimum_matches: Annotated[int, Field(ge=2)] = 4
    """A case with fewer matches than this counts as failed."""
