"""What ``regagent register`` tells of a result: in words, and in plain values for other programs."""

import numpy as np

from regagent.agent.agent_file import Evaluation
from regagent.agent.trust import Judgement
from regagent.command.pair import TRUSTED_CASES, Outcome, Placed
from regagent.evaluation.registrations import SUCCESS_PX


def told_slices(outcome: Outcome, placed: Placed) -> str:
    """Return one line per slice: its own pose in mm and degrees, and what the agent says of it."""
    found = outcome.slices
    if outcome.judgement:
        said = f"chance of at most {SUCCESS_PX * placed.mm_per_px:.1f} mm, error expected"
        endings = [
            f"{chance:4.0%}  " + (f"{error:.1f} mm ({low:.1f} to {high:.1f})" if taken else "refused")
            for chance, error, low, high, taken in zip(
                *_in_mm(outcome.judgement, placed), found.stopped, strict=True
            )
        ]
    else:
        said = f"value (threshold {outcome.threshold:.2f})"
        endings = [
            f"{value:6.2f}  "
            + (f"reached it after {steps} steps" if taken else f"not reached in {steps} steps")
            for value, steps, taken in zip(found.value, found.steps, found.stopped, strict=True)
        ]
    rows = [
        f"{number:5d}  {_numbers(pose, placed)}  {ending}"
        for number, pose, ending in zip(placed.numbers, found.pose, endings, strict=True)
    ]
    return "\n".join([f"slice    x mm    y mm   angle   scale   {said}", *rows])


def told_result(outcome: Outcome, placed: Placed, evaluation: Evaluation) -> str:
    """Return the pose of the pair, the agreement of its slices, and the error that is to be expected.

    Of an agent whose error no network predicts, ``evaluation`` gives the success rate instead.
    """
    start = " from where their centres meet" if placed.start.any() else ""
    lines = [f"       {_numbers(outcome.pose, placed)}  this moves the CT onto the MR{start}"]
    if outcome.rigid:
        lines.append(
            f"The scale is fixed at 1 (the agent saw {outcome.scale_seen:.3f});"
            " --scale free looks for a scale too"
        )
    reached = outcome.slices.stopped
    if len(reached) > 1:
        spread = np.median(outcome.spread_px[reached]) * placed.mm_per_px
        what = "are likely to be right" if outcome.judgement else "reached the threshold"
        lines.append(
            f"{reached.sum()} of {len(reached)} slices {what};"
            f" half of them lie within {spread:.1f} mm of their median"
        )
    success_mm = SUCCESS_PX * placed.mm_per_px
    if outcome.expected:
        lines.append(told_error(_in_mm(outcome.expected, placed), f"{success_mm:.1f}", "images"))
    else:
        share = evaluation.stopped_within / evaluation.stopped
        lines.append(
            f"Success estimate of a slice: {share:.0%}. Of {evaluation.stopped} test cases of this agent"
            f" ({evaluation.patients} patients of its own cohort) {TRUSTED_CASES}, this share"
            f" ended within {evaluation.success_px:g} px of the truth, which is"
            f" {evaluation.success_px * placed.mm_per_px:.1f} mm here."
        )
    return "\n".join(lines)


def told_error(judgement: Judgement, success_mm: str, both: str) -> str:
    """Return in words what is expected of a result, its errors in mm; ``both`` names what was registered."""
    chance, error, low, high = judgement
    return (
        f"Expected error: {error:.1f} mm, in nine of ten such cases {low:.1f} to {high:.1f} mm, if both"
        f" {both} show one head. Chance of at most {success_mm} mm, if every second pair does not:"
        f" {chance:.0%}."
    )


def told_after(outcome: Outcome, placed: Placed) -> str:
    """Return what stands over the picture of the result."""
    if outcome.refusal:
        return "after, refused"
    if outcome.expected:
        return f"after, {outcome.expected.expected * placed.mm_per_px:.1f} mm off expected"
    return "after"


def plain_facts(outcome: Outcome, placed: Placed) -> dict:
    """Return the result in plain values: of the pair, and of each slice (see docs/registering.md)."""
    rows, slices = outcome.judgement, []
    for row, (number, taken) in enumerate(zip(placed.numbers, outcome.slices.stopped, strict=True)):
        judgement = Judgement(*(values[row] for values in rows)) if rows else None
        known = _plain(outcome.slices.pose[row], placed, judgement, taken)
        slices.append({"slice": number, "registered": bool(taken), **known})
    return {
        "registered": not outcome.refusal,
        "refusal": outcome.refusal,
        **_plain(outcome.pose, placed, outcome.expected, not outcome.refusal),
        "success_mm": SUCCESS_PX * placed.mm_per_px,
        "slices": slices,
    }


def _plain(
    pose: np.ndarray, placed: Placed, judgement: Judgement | None, taken: bool
) -> dict[str, float | None]:
    """Return a pose (4,), and what is expected of it in mm, in plain values: no error where it is refused."""
    x, y = pose[:2] * placed.mm_per_px
    values: dict[str, float | None]
    values = {"x_mm": float(x), "y_mm": float(y), "angle_deg": float(pose[2]), "scale": float(pose[3])}
    return values | plain_error(_in_mm(judgement, placed) if judgement else None, taken)


def plain_error(judgement: Judgement | None, taken: bool) -> dict[str, float | None]:
    """Return what is expected of a result, in mm, in plain values: no error where it is refused."""
    chance: float | None = None
    errors: list[float | None] = [None] * 3
    if judgement:
        chance, *known = (float(number) for number in judgement)
        errors = [*known] if taken else errors
    names = ("success_probability", "expected_error_mm", "error_low_mm", "error_high_mm")
    return dict(zip(names, [chance, *errors], strict=True))


def _in_mm(judgement: Judgement, placed: Placed) -> Judgement:
    """Return a judgement with its errors in mm."""
    return Judgement(judgement.probability, *(errors * placed.mm_per_px for errors in judgement[1:]))


def _numbers(pose: np.ndarray, placed: Placed) -> str:
    """Return a pose (4,) in columns: x and y in mm, angle in degrees, scale."""
    x, y = pose[:2] * placed.mm_per_px
    return f"{x:6.1f}  {y:6.1f}  {pose[2]:6.1f}  {pose[3]:6.3f}"
