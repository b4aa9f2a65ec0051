"""The paper's claims against runs whose answer is known."""

import numpy as np
import pandas as pd
import pytest
import yaml
from test_tables import write
from workflow import ROOT

from regagent.evaluation.claims import differences_of_lookahead, judge, make_claims
from regagent.evaluation.paper_claims import CLAIMS, GROWTH, Claim
from regagent.evaluation.statistics import BELOW, FARTHER, MINUS, NEARER
from regagent.evaluation.trainings import TRAINING
from regagent.settings import Inference, load


def run(means, patients=6, seeds=(1, 2, 3), spread=0.1):
    """Return registrations of four cases a patient; ``means`` are px by method and set."""
    rng = np.random.default_rng(0)
    frames = [
        pd.DataFrame(
            {
                "method": method,
                "set": set_name,
                "seed": seed,
                "case": np.arange(4 * patients),
                "patient": np.repeat([f"P{number}" for number in range(patients)], 4),
                "initial_px": np.tile([10.0, 20.0, 30.0, 40.0], patients),
                "tre_px": mean + spread * rng.standard_normal(4 * patients),
            }
        )
        for (method, set_name), mean in means.items()
        for seed in seeds
    ]
    return pd.concat(frames)


def of(a, b, **keys):
    return [Claim("5", "A is better than B.", ((a, b),), **keys)]


MEANS = {("A", "E1"): 1.0, ("A", "E2"): 1.0, ("B", "E1"): 2.0, ("B", "E2"): 4.0}


def test_a_clear_difference_is_measured_and_supported():
    found = judge(run(MEANS), claims=of("A", "B"))
    assert found["set"].tolist() == ["E1", "E2"]
    assert found.difference.tolist() == pytest.approx([1.0, 3.0], abs=0.1)
    assert (found.low < found.difference).all() and (found.difference < found.high).all()
    assert (found.shows == "for").all() and (found.verdict == "supported").all()


def test_what_is_gained_more_on_the_larger_perturbations():
    found = judge(run(MEANS), claims=of("A", "B", sets=(GROWTH,)))
    assert found.difference[0] == pytest.approx(2.0, abs=0.15) and found.shows[0] == "for"


def turned():
    return {(("B" if method == "A" else "A"), name): mean for (method, name), mean in MEANS.items()}


def test_the_other_way_round_is_against_and_not_supported():
    found = judge(run(turned()), claims=of("A", "B"))
    assert (found.shows == "against").all() and (found.verdict == "not supported").all()
    assert found.low.max() < 0


def test_alike_is_within_the_margin():
    def shows(difference, spread):
        table = run({("A", "E1"): 1.0, ("B", "E1"): 1.0 + difference}, spread=spread)
        return judge(table, claims=of("A", "B", sets=("E1",), relation="alike", margin=0.5)).shows[0]

    assert shows(0.2, 0.1) == "for"
    assert shows(2.0, 0.1) == "against" and shows(-2.0, 0.1) == "against"
    assert shows(0.2, 10.0) == "open"


def test_no_improvement_is_what_an_interval_with_zero_says():
    found = [
        judge(run(means), claims=of("A", "B", relation="not lower")).verdict[0] for means in (MEANS, turned())
    ]
    assert found == ["not supported", "supported"]


def test_a_margin_must_be_passed():
    found = [
        judge(run(MEANS), claims=of("A", "B", margin=margin, sets=("E2",))).shows[0] for margin in (2.0, 4.0)
    ]
    assert found == ["for", "against"]


def test_some_comparison_is_enough_where_the_claim_says_so():
    pairs = (("A", "B"), ("B", "A"))
    for some, verdict in ((True, "supported"), (False, "not supported")):
        assert set(judge(run(MEANS), claims=[Claim("5", "Some.", pairs, some=some)]).verdict) == {verdict}


def test_seeds_that_disagree_leave_a_claim_open():
    """Two trainings say yes and one no, and all patients agree: drawn patients alone would say yes."""
    seeds = [
        run({("A", "E1"): 1.0, ("B", "E1"): mean}, seeds=(seed,)) for seed, mean in enumerate((3, 3, 0.5), 1)
    ]
    found = judge(pd.concat(seeds), claims=of("A", "B", sets=("E1",)))
    assert found.difference[0] == pytest.approx((2 + 2 - 0.5) / 3, abs=0.1)
    # B's mean over three drawn seeds is 0.5 in a resample of 27, more than 2.5 % of them.
    assert found.low[0] == pytest.approx(-0.5, abs=0.15) and found.high[0] == pytest.approx(2, abs=0.15)
    assert found.shows[0] == "open" and found.verdict[0] == "not supported"


@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
def test_a_trained_method_is_not_tested_with_fewer_than_three_seeds(seeds):
    found = judge(run(MEANS, seeds=seeds), claims=of("A", "B"))
    assert (found.verdict == "not testable here").all() and (found.shows == "open").all()
    assert found.low.isna().all() and found.difference[1] == pytest.approx(3, abs=0.1)
    assert (found.seeds == len(seeds)).all()
    assert (found.remark == f"a trained method needs 3 seeds, this run has {len(seeds)}").all()


def test_methods_without_training_need_no_seeds():
    means = {("Elastix", "E1"): 1.0, ("SIFT", "E1"): 2.0, ("MI-search+Elastix", "E1"): 3.0}
    table = pd.concat([run(means, seeds=(0,)), run({("A", "E1"): 5.0}, seeds=(1,))])
    for worse in ("SIFT", "MI-search+Elastix"):
        found = judge(table, claims=of("Elastix", worse, sets=("E1",)))
        assert found.verdict[0] == "supported" and found.seeds.isna().all() and found.remark[0] == ""
    both = [Claim("5", "Elastix is best.", (("Elastix", "SIFT"), ("Elastix", "A")), sets=("E1",))]
    found = judge(table, claims=both)
    assert found.shows.tolist() == ["for", "open"] and (found.verdict == "not testable here").all()


def test_an_agent_and_its_look_ahead_have_the_same_luck():
    """Trainings of 1, 5 and 9 px gain 1 px each: it is for sure, while another agent may be better or not."""
    parts = [
        run({("A", "E1"): mean, ("A-MC", "E1"): mean - 1, ("B", "E1"): mean + 1}, seeds=(seed,))
        for seed, mean in ((1, 1.0), (2, 5.0), (3, 9.0))
    ]
    table = pd.concat(parts)
    for better, worse, shows in (("A-MC", "A", "for"), ("A", "B", "open")):
        found = judge(table, claims=of(better, worse, sets=("E1",)))
        assert found.difference[0] == pytest.approx(1, abs=0.1) and found.shows[0] == shows
    found = judge(table, claims=of("A-MC", "A", sets=("E1",)))
    assert found.low[0] > 0.8 and found.high[0] < 1.2


def test_each_set_has_its_verdict():
    means = {**MEANS, ("B", "E1"): 0.5}
    found = judge(run(means), claims=of("A", "B", sets=("E1", "E2", GROWTH)))
    assert found.tested_on.tolist() == ["E1", "E2", "otherwise"]
    assert found.verdict.tolist() == ["not supported", "supported", "supported"]


def test_what_is_gained_by_a_change_is_compared():
    means = {("A", "E1"): 3.0, ("A-MC", "E1"): 1.0, ("B", "E1"): 3.0, ("B-MC", "E1"): 2.5}
    claim = Claim("5", "A gains more.", ((f"A-MC{MINUS}A", f"B-MC{MINUS}B"),), sets=("E1",))
    found = judge(run(means), claims=[claim])
    assert found.difference[0] == pytest.approx(-0.5 + 2.0, abs=0.15) and found.shows[0] == "for"


def test_near_and_far_halves_are_told_apart_by_the_error_before_registration():
    table = run({("A", "E1"): 1.0, ("A", "E2"): 1.0})
    table.loc[table["set"] == "E2", "initial_px"] += 100  # as far as these start, half of them are the nearer
    table.loc[table.initial_px.isin([30, 40]), "tre_px"] += 2
    table.loc[table.initial_px.isin([130, 140]), "tre_px"] -= 2
    sets = tuple(f"{NEARER}{name}{BELOW}{FARTHER}{name}" for name in ("E1", "E2"))
    found = judge(table, claims=[Claim("5", "Nearer is better.", (("A", "A"),), sets=sets)])
    assert found.difference.tolist() == pytest.approx([2.0, -2.0], abs=0.1)
    assert found.tested_on.tolist() == ["E1", "E2"]
    assert found.verdict.tolist() == ["supported", "not supported"]


def write_training(folder, variant, seed, steps, success):
    path = folder / "models" / variant / f"seed{seed}" / "training.csv"
    path.parent.mkdir(parents=True)
    steps = np.resize(steps, 100)
    pd.DataFrame(
        {"env_step": np.cumsum(steps), "steps": steps, "reward": -steps, "success": np.resize(success, 100)}
    ).to_csv(path, index=False)
    return path


def test_trainings_are_compared_over_seeds(tmp_path):
    paths = [
        write_training(tmp_path, variant, seed, [pace, pace + seed], [success])
        for variant, pace, success in (("A", 20, 1), ("B", 50, 0))
        for seed in (1, 2, 3)
    ]
    claims = [
        Claim("5", "Sooner.", (("A", "B"),), statistics=("steps an episode",), sets=(TRAINING,)),
        Claim(
            *("5", "B never ends.", (("A", "B"),), ("part without terminal, last tenth",), (TRAINING,)),
            margin=0.5,
        ),
    ]
    registrations = run(MEANS)
    found = judge(registrations, paths, claims)
    assert found.difference[0] == 30  # 50.5, 51 and 51.5 steps against 20.5, 21 and 21.5
    assert found.low[0] == pytest.approx(
        30 - 2.7764 * (2 / 12) ** 0.5, abs=1e-3
    )  # Welch: t(4), sd² = 1/4 each
    assert found.verdict[0] == "supported" and (found.tested_on == "training").all()
    assert found.difference[1] == found.low[1] == 1 and found.verdict[1] == "supported"
    few = judge(registrations, [path for path in paths if "seed3" not in str(path)], claims)
    assert (few.verdict == "not testable here").all() and few.remark.str.contains("needs 3 seeds").all()


def test_patients_are_drawn_not_cases():
    """One patient of six decides: its many cases say no more than one would."""
    table = run({("A", "E1"): 1.0, ("B", "E1"): 1.0})
    table.loc[(table.method == "B") & (table.patient == "P0"), "tre_px"] += 10
    found = judge(table, claims=of("A", "B", sets=("E1",)))
    assert found.difference[0] == pytest.approx(10 / 6, abs=0.1)
    assert found.low[0] < 0.1 and found.high[0] > 3 and found.shows[0] != "against"


def test_a_single_patient_tests_nothing():
    found = judge(run(MEANS, patients=1), claims=of("A", "B"))
    assert (found.verdict == "not testable here").all() and found.low.isna().all()
    assert found.remark.str.contains("two test patients").all()


def test_what_the_run_lacks_is_named():
    found = judge(run(MEANS), claims=[Claim("5", "A is best.", (("A", "B"), ("A", "C"), ("A", "D")))])
    assert len(found) == 2 and found.remark[0] == "this run lacks C, D" and found.verdict[0] == "supported"
    found = judge(run(MEANS), claims=[Claim("5", "C is best.", (("C", "A"),))])
    assert found.tested_on.tolist() == ["E1", "E2"] and found.better.isna().all()
    assert (found.verdict == "not testable here").all()


def test_a_claim_without_comparisons_says_why_it_cannot_be_tested():
    found = judge(run(MEANS)).drop_duplicates("claim").set_index("claim")
    for claim in CLAIMS:
        assert claim.pairs or (claim.remark and found.verdict[claim.says] == "not testable here")
    assert len({claim.says for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.section for claim in CLAIMS} == {"4", "5", "5.1", "5.2", "5.3"}


@pytest.mark.parametrize(
    ("inference", "differs"),
    [
        (Inference(), "for 4 rounds, the paper's for one and averages by Eq. 5 with a guard"),
        (Inference(weights="paper"), "for 4 rounds, the paper's for one"),
        (Inference(weights="paper", rounds=1), ""),
    ],
)
def test_what_hangs_on_the_look_ahead_says_how_it_differs_from_the_paper_s(inference, differs):
    names = ("SL-LME", "SL-LME-MC", "RL-LME", "RL-LME-MC")
    table = run({(name, set_name): 1.0 for name in names for set_name in ("E1", "E2")})
    said = differences_of_lookahead(inference)
    assert differs in said if differs else said == ""
    found = judge(table, lookahead=said).drop_duplicates("claim").set_index("claim")
    remarked = {says for says, remark in found.remark.items() if said and said in remark}
    hanging = {"SL loses by the look-ahead.", "RL gains by the look-ahead.", "RL is better than SL."}
    assert hanging <= remarked if differs else not remarked
    assert "With the LSTM, training converges sooner." not in remarked


def test_the_claim_on_memory_is_tested_by_emptying_it():
    means = {("RL-LME", "E1"): 1.0, ("RL-LME-memoryless", "E1"): 1.0, ("RL-LME", "E2"): 1.0}
    found = judge(run({**means, ("RL-LME-memoryless", "E2"): 2.0})).query(
        "claim.str.contains('earlier states')"
    )
    assert found.tested_on.tolist() == ["E1", "E2"]
    assert found.verdict.tolist() == ["not supported", "supported"]


def test_every_method_named_is_one_of_the_default_run_or_an_ablation():
    named = {
        method
        for claim in CLAIMS
        for pair in claim.pairs
        for quantity in pair
        for method in quantity.split(MINUS)
    }
    settings = load(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
    assert named <= {*settings.methods, *settings.variants, "RL-LME-memoryless"}


def test_the_tables_are_written(tmp_path):
    runs = [
        write(tmp_path, method, errors, seed, name)
        for name in ("E1", "E2")
        for method, errors, seeds in (
            ("SIFT", [9.0, 8.0, 7.0, 9.0], [0]),
            ("RL-LME", [1.0, 2.0, 1.0, 2.0], [1, 2, 3]),
        )
        for seed in seeds
    ]
    outputs = [tmp_path / f"claims.{suffix}" for suffix in ("csv", "md", "html")]
    make_claims(runs, [], *outputs, Inference())
    markdown = outputs[1].read_text(encoding="utf-8")
    assert "| § | The paper says | E1 | E2 | training | otherwise | remark |" in markdown
    assert (
        "| Every learned method is better than SIFT. | supported (1 for) | supported (1 for) |  |  | this run"
        in markdown
    )
    assert "| RL-LME | SIFT | E1 | mean | 6.75 [" in markdown
    found = pd.read_csv(outputs[0])
    assert found.shows[found.better.eq("RL-LME") & found.worse.eq("SIFT")].tolist() == ["for"] * 2
    page = outputs[2].read_text(encoding="utf-8")
    assert "<title>Claims</title>" in page and page.count("<caption>") == 2
