"""The paper's claims against runs whose answer is known."""

import numpy as np
import pandas as pd
import pytest
import yaml
from test_tables import write
from workflow import ROOT

from regagent.claims import CLAIMS, GROWTH, Claim, judge, make_claims
from regagent.settings import load


def run(means, patients=6, seeds=(1,), spread=0.1):
    """Return registrations of four cases a patient; ``means`` are px by method and set."""
    rng = np.random.default_rng(0)
    frames = [
        pd.DataFrame(
            {
                "method": method,
                "set": set_name,
                "seed": seed,
                "patient": np.repeat([f"P{number}" for number in range(patients)], 4),
                "tre_px": mean + spread * rng.standard_normal(4 * patients),
            }
        )
        for (method, set_name), mean in means.items()
        for seed in seeds
    ]
    return pd.concat(frames)


def of(a, b, **keys):
    return [Claim("5", "A is better than B.", (("A", "B"),), **keys)]


MEANS = {("A", "E1"): 1.0, ("A", "E2"): 1.0, ("B", "E1"): 2.0, ("B", "E2"): 4.0}


def test_a_clear_difference_is_measured_and_supported():
    found = judge(run(MEANS, seeds=(1, 2)), of("A", "B"))
    assert found["set"].tolist() == ["E1", "E2"]
    assert found.difference.tolist() == pytest.approx([1.0, 3.0], abs=0.1)
    assert (found.low < found.difference).all() and (found.difference < found.high).all()
    assert (found.verdict == "supported").all()


def test_what_is_gained_more_on_the_larger_perturbations():
    found = judge(run(MEANS), of("A", "B", sets=(GROWTH,)))
    assert found.difference[0] == pytest.approx(2.0, abs=0.15) and found.verdict[0] == "supported"


def test_the_other_way_round_is_contradicted_and_alike_is_open():
    turned = {(("B" if method == "A" else "A"), name): mean for (method, name), mean in MEANS.items()}
    assert (judge(run(turned), of("A", "B")).verdict == "contradicted").all()
    assert (judge(run(MEANS), of("A", "B", alike=True)).verdict == "contradicted").all()
    same = dict.fromkeys(MEANS, 1.0)
    assert (judge(run(same, spread=1.0), of("A", "B", alike=True)).verdict == "open").all()


def test_patients_are_drawn_not_cases():
    """One patient of six decides: its many cases say no more than one would."""
    table = run({("A", "E1"): 1.0, ("B", "E1"): 1.0})
    table.loc[(table.method == "B") & (table.patient == "P0"), "tre_px"] += 10
    found = judge(table, of("A", "B", sets=("E1",)))
    assert found.difference[0] == pytest.approx(10 / 6, abs=0.1)
    assert found.low[0] < 0.1 and found.high[0] > 3 and found.verdict[0] != "contradicted"


def test_a_single_patient_leaves_all_open_and_absent_methods_are_left_out():
    found = judge(run(MEANS, patients=1), [*of("A", "B"), *CLAIMS])
    assert len(found) == 2 and (found.verdict == "open").all() and found.low.isna().all()


def test_every_method_named_is_one_of_the_default_run_or_an_ablation():
    named = {method for claim in CLAIMS for pair in claim.pairs for method in pair}
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    methods = {*load(config).methods, "CNN-LME"}
    assert named <= methods


def test_the_tables_are_written(tmp_path):
    runs = [
        write(tmp_path, method, errors, name=name)
        for name in ("E1", "E2")
        for method, errors in (("SIFT", [9.0, 8.0, 7.0, 9.0]), ("RL-LME", [1.0, 2.0, 1.0, 2.0]))
    ]
    outputs = [tmp_path / f"claims.{suffix}" for suffix in ("csv", "md", "html")]
    make_claims(runs, *outputs)
    assert "| 4 | Every learned method is better than SIFT. | RL-LME | SIFT | E1 | mean | 6.75 [" in (
        outputs[1].read_text()
    )
    assert pd.read_csv(outputs[0]).verdict.tolist() == ["supported"] * 2
    assert "<title>Claims</title>" in outputs[2].read_text()
