"""Intervals over patients, paired tests and worst cases, against numbers known by hand or from SciPy."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_tables import REFERENCE, row_of, write

from regagent.evaluation import statistics
from regagent.evaluation.statistics import (
    CaseErrors,
    holm,
    signed_rank,
    success_rate,
    summarise_statistics,
    worst_mean,
)
from regagent.evaluation.table2_statistics import make_table2_statistics
from regagent.files import UserError, read_table


def registrations(errors, method="A", set_name="E1", seed=1):
    """Return registrations of some cases a patient from their errors (patients, cases)."""
    errors = np.asarray(errors, dtype=float)
    return pd.DataFrame(
        {
            "method": method, "set": set_name, "seed": seed, "case": np.arange(errors.size),
            "patient": np.repeat([f"P{number}" for number in range(len(errors))], errors.shape[1]),
            "initial_px": 20.0, "tre_px": errors.ravel(),
        }
    )  # fmt: skip


def test_the_worst_30_percent_are_averaged():
    assert worst_mean([1, 9, 2, 8, 3, 7, 4, 4, 4, 4]) == 8.0  # of ten, 9 8 7
    assert worst_mean([5.0, 1.0]) == 5.0 and worst_mean([3.0]) == 3.0


def test_a_success_is_within_two_pixels():
    assert success_rate([1.0, 2.0, 2.01, 30.0]) == 0.5


def test_holm_by_hand():
    # 0.005·4, 0.01·3, 0.03·2, 0.04·1 → 0.02, 0.03, 0.06, and 0.04 is raised to what stands before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    with_gap = holm([0.02, np.nan, 0.01])
    assert with_gap[[0, 2]] == pytest.approx([0.02, 0.02]) and np.isnan(with_gap[1])


def test_signed_ranks_by_hand_and_by_scipy():
    ours, other = np.array([1.0, 1.0, 1.0, 5.0, 2.0]), np.array([2.0, 3.0, 4.0, 1.0, 2.0])
    r, p = signed_rank(ours, other)  # differences 1, 2, 3, −4 have ranks 1 to 4, the equal pair none
    assert r == pytest.approx((1 + 2 + 3 - 4) / 10)
    # Of 16 ways to choose ranks, 7 sum to at most the 4 of the negative one: none, 1, 2, 3, 4, 1 + 2, 1 + 3.
    assert p == pytest.approx(2 * 7 / 16)
    assert p == stats.wilcoxon(other[:4] - ours[:4]).pvalue
    assert signed_rank(other, ours)[0] == -r
    assert signed_rank(ours, ours) == (0.0, 1.0)


def test_patients_that_differ_widen_the_interval_and_cases_do_not():
    """Six patients of 1 … 6 px, and the same errors dealt out so that every patient has the same mean."""
    of_patients = np.repeat(np.arange(1.0, 7.0)[:, None], 12, 1)
    dealt = np.tile(np.arange(1.0, 7.0), (6, 2))
    assert sorted(dealt.ravel()) == sorted(of_patients.ravel())
    widths = []
    for errors in (of_patients, dealt):
        mean, low, high = CaseErrors(registrations(errors)).with_interval("A", "E1", "mean")
        assert mean == 3.5 and low <= mean <= high
        widths.append(high - low)
    by_case = stats.bootstrap((of_patients.ravel(),), np.mean, method="percentile", rng=1)
    width = by_case.confidence_interval.high - by_case.confidence_interval.low
    assert widths[0] > 2 * width and widths[1] == pytest.approx(0, abs=1e-12)


def test_the_interval_is_that_of_scipy_over_the_patients_means():
    rng = np.random.default_rng(3)
    errors = rng.gamma(2, 1, (7, 5))
    _, low, high = CaseErrors(registrations(errors)).with_interval("A", "E1", "mean")
    expected = stats.bootstrap(
        (errors.mean(1),), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high))


def drawn_by_brute_force(errors, trainings, resamples=20_000):
    """Return the 95 % interval of B minus A, of errors (method, seed, patient, case), draw by draw."""
    rng = np.random.default_rng(8)
    found = []
    for _ in range(resamples):
        patients = rng.integers(0, errors["A"].shape[1], errors["A"].shape[1])
        seeds = {training: rng.integers(0, 3, 3) for training in set(trainings.values())}
        ours, other = (
            np.mean([np.percentile(errors[method][seed][patients], 90) for seed in seeds[trainings[method]]])
            for method in ("A", "B")
        )
        found.append(other - ours)
    return np.percentile(found, [2.5, 97.5])


@pytest.mark.parametrize("names", [{"A": "A", "B": "B"}, {"A": "A", "B": "A-MC"}])
def test_the_interval_over_patients_and_seeds_is_that_of_drawing_them_one_by_one(names):
    rng = np.random.default_rng(2)
    luck = rng.normal(0, 1, (3, 1, 1))  # of a training, alike for both where they are one
    errors = {
        method: 5 + 2 * luck + 0.3 * rng.normal(0, 1, (3, 1, 1)) + rng.normal(0, 0.5, (1, 6, 1)) + shift
        + rng.normal(0, 0.4, (3, 6, 4))
        for method, shift in (("A", 0.0), ("B", 1.0))
    }  # fmt: skip
    table = pd.concat(
        [
            registrations(of_seed, names[method], seed=seed)
            for method, of_method in errors.items()
            for seed, of_seed in enumerate(of_method, 1)
        ]
    )
    found = CaseErrors(table).compare(names["A"], names["B"], "E1", "p90")
    paired = {method: name.removesuffix("-MC") for method, name in names.items()}
    expected = drawn_by_brute_force(errors, paired)
    assert found.seeds == 3
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.05 * np.ptp(expected))


@pytest.mark.parametrize("method", ["A", "A-MC", "A-memoryless+Elastix"])
def test_seeds_are_drawn_as_well_as_patients(method):
    """Patients agree and trainings do not: the interval is that of scipy over the means of seeds."""
    means = np.array([1.0, 2.0, 6.0])
    table = pd.concat(
        [registrations(np.full((4, 2), mean), method, seed=seed) for seed, mean in enumerate(means, 1)]
    )
    mean, low, high = CaseErrors(table).with_interval(method, "E1", "mean")
    expected = stats.bootstrap((means,), np.mean, method="percentile", rng=1).confidence_interval
    assert mean == 3 and (low, high) == pytest.approx((expected.low, expected.high))


def test_seeds_are_averaged():
    table = pd.concat([registrations([[1.0, 1.0], [3.0, 3.0]], seed=seed) for seed in (1, 2)])
    table.loc[table["seed"] == 2, "tre_px"] += 2
    errors = CaseErrors(table)
    assert errors.statistic("A", "E1", "mean") == 3.0
    drawn = [[0, 0], [1, 0]]
    assert errors.statistic("A", "E1", "mean", drawn).tolist() == [2.0, 3.0]
    seeds = {"A": np.array([[0, 0], [1, 0]])}
    assert errors.statistic("A", "E1", "mean", drawn, seeds).tolist() == [1.0, 3.0]
    assert errors.statistic("A", "E1", "mean", drawn, {"B": seeds["A"]}).tolist() == [2.0, 3.0]
    mean, low, high = errors.with_interval("A", "E1", "mean")
    assert (mean, low, high) == (3.0, 1.0, 5.0)  # both patients, or both seeds, may be the same one


@pytest.mark.parametrize("at_once", [1, 8, 1000])
def test_patients_may_have_unlike_numbers_of_cases(at_once, monkeypatch):
    monkeypatch.setattr(statistics, "ERRORS_AT_ONCE", at_once)
    table = pd.concat([registrations([[1.0] * 4]), registrations([[5.0]]).assign(patient="P1", case=4)])
    table = pd.concat([table, registrations([[9.0]]).assign(patient="P2", case=5)])
    found = CaseErrors(table).statistic("A", "E1", "mean", [[0, 0], [0, 1], [2, 0], [1, 1], [1, 2], [2, 2]])
    assert found.tolist() == [1.0, 1.8, 2.6, 5.0, 7.0, 9.0]


def test_a_slow_method_is_compared_on_the_cases_that_it_has():
    rng = np.random.default_rng(7)
    ours, other = rng.gamma(2, 1, (2, 6, 4))
    every = [registrations(ours, "A"), registrations(other, "B")]
    slow = every[1][every[1]["case"] % 4 < 2].assign(method="C")
    table = pd.concat([*every, slow])
    found, first = CaseErrors(table), np.s_[:, :2]
    assert found.compare("A", "C", "E1", "mean").difference == pytest.approx((other - ours)[first].mean())
    assert found.compare("A", "B", "E1", "mean").difference == pytest.approx((other - ours).mean())
    assert found.statistic("C", "E1", "mean") == pytest.approx(other[first].mean())
    assert found.compare("A", "C", "nearer half of E1", "mean").difference == pytest.approx(
        (other - ours)[first].mean()
    )  # all errors before registration are 20 px, so the nearer half is all
    rows = summarise_statistics(table, ["A", "B", "C"], "A").set_index("method")
    pairs = other[first], ours[first]
    assert rows.loc["C", "p_cases"] == pytest.approx(stats.wilcoxon(*map(np.ravel, pairs)).pvalue)
    assert rows.loc["C", "p_patients"] == pytest.approx(stats.wilcoxon(*(x.mean(1) for x in pairs)).pvalue)
    assert rows.loc["B", "p_cases"] == pytest.approx(stats.wilcoxon(other.ravel(), ours.ravel()).pvalue)
    without = CaseErrors(pd.concat(every))
    assert found.compare("A", "B", "E1", "p90") == without.compare("A", "B", "E1", "p90")


def test_one_patient_has_no_interval():
    mean, low, high = CaseErrors(registrations([[1.0, 3.0]])).with_interval("A", "E1", "mean")
    assert mean == 2.0 and np.isnan(low) and np.isnan(high)


def test_every_method_is_tested_and_all_tests_are_one_family():
    rng = np.random.default_rng(5)
    ours, other = rng.gamma(2, 1, (2, 6, 4))
    frames = [
        registrations(errors, method, set_name)
        for set_name in ("E1", "E2")
        for method, errors in (("Initial", other + 20), ("A", ours), ("B", other), ("C", ours + 1))
    ]
    table = summarise_statistics(pd.concat(frames), ["Initial", "A", "B", "C"], "A").set_index(
        ["set", "method"]
    )
    tested = table["p_cases"].dropna()
    assert tested.index.get_level_values("method").tolist() == ["B", "C"] * 2
    row = table.loc["E1", "B"]
    assert row["p_cases"] == pytest.approx(stats.wilcoxon(other.ravel(), ours.ravel()).pvalue)
    assert row["p_patients"] == pytest.approx(stats.wilcoxon(other.mean(1), ours.mean(1)).pvalue)
    assert row["difference"] == pytest.approx(other.mean() - ours.mean())
    assert table["p_cases_holm"].dropna().tolist() == pytest.approx(holm(tested).tolist())
    assert table.loc["E1", "C"]["r_cases"] == 1 and table.loc["E1", "C"]["p_patients"] == 2 / 2**6


def test_cases_are_paired_after_averaging_over_the_seeds():
    """Case by case, 1 and 3 px of two seeds are the 2 px of the other method: no pair differs."""
    ours = [registrations([[error] * 3] * 4, "A", seed=seed) for seed, error in ((1, 1.0), (2, 3.0))]
    table = summarise_statistics(
        pd.concat([*ours, registrations([[2.0] * 3] * 4, "B", seed=0)]), ["A", "B"], "A"
    ).set_index("method")
    assert table.loc["B", ["r_cases", "p_cases"]].tolist() == [0.0, 1.0]


@pytest.fixture
def paths(tmp_path):
    return [
        write(tmp_path, method, errors, name=name)
        for name in ("E1", "E2")
        for method, errors in (
            ("SIFT", [10.0, 20.0, 1.0, 1.0]),
            ("RL-LME-MC", [1.0, 2.0, 3.0, 6.0]),
            ("my-agent", [1.0, 2.0, 3.0, 6.0]),
        )
    ]


def test_the_table_is_written(paths, tmp_path):
    outputs = {suffix: tmp_path / f"statistics.{suffix}" for suffix in ("csv", "md", "tex", "html")}
    make_table2_statistics(paths, REFERENCE, ["SIFT", "RL-LME-MC", "my-agent"], *outputs.values())
    texts = {suffix: path.read_text(encoding="utf-8") for suffix, path in outputs.items()}
    # Two patients of 1, 2 and of 3, 6 px: the intervals reach from the one drawn twice to the other.
    assert row_of(texts["md"], "RL-LME-MC")[1:] == [
        *("3.00 [1.50, 4.50]", "5.10 [2.00, 6.00]", "6.00", "50 %"),
        *["–"] * 4,
    ]
    assert row_of(texts["md"], "SIFT")[3:6] == ["20.00", "50 %", "5.00 [-3.50, 13.50]"]
    assert row_of(texts["md"], "my-agent†")[5:] == ["0.00 [0.00, 0.00]", "0.00", "1.000", "1.000"]
    assert len(read_table(outputs["csv"])) == 6
    columns = len(re.search(r"\\begin\{tabular\}\{(l?r+)\}", texts["tex"]).group(1))
    assert columns == 9 and texts["tex"].isascii()
    assert "src=" not in texts["html"] and texts["html"].count("<table ") == 2


def test_a_method_without_registrations_is_named(paths, tmp_path):
    with pytest.raises(UserError, match="no registrations of Elastix on E1"):
        make_table2_statistics(paths, REFERENCE, ["SIFT", "Elastix"], *[tmp_path / "x.csv"] * 4)
