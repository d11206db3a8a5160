"""Batch curves against published step times, where that data is; and that the evaluation sees nothing it must not."""

import math
import random
from dataclasses import astuple
from statistics import fmean

import pytest

from benchmarks import curves_public as benchmark
from benchmarks.curve_cases import Case, between, beyond, by_log_scale, coverage, family_of, fitted
from benchmarks.public_data import DATA_VARIABLE, data_folder, step_curves
from hetsim.costs.shape import PUBLISHED

needs_data = pytest.mark.skipif(
    not data_folder().is_dir(), reason=f"the published step times are not here; {DATA_VARIABLE} names their folder"
)


def made_up(curves=30, noise=0.05):
    """Curves of a fixed and a proportional part, and noise, by (source, network, GPU)."""
    dice = random.Random(2)
    for i in range(curves):
        per_sample = dice.uniform(0.01, 0.2)
        sizes = [round(4 * 1.5**k) for k in range(9)]
        yield (
            ("made up", f"net{i % 5}", f"gpu{i}"),
            {float(n): (1 + per_sample * n) * math.exp(noise * dice.gauss(0, 1)) for n in sizes},
        )


def test_what_is_held_out_is_not_measured_and_the_ends_are():
    for case in between(dict(made_up()), 4):
        assert not set(case.sizes) & set(case.held_sizes)
        assert case.sizes[0] < min(case.held_sizes) <= max(case.held_sizes) < case.sizes[-1]
        assert len(case.sizes) == 4
    for case in beyond(dict(made_up()), 4, above=True):
        assert max(case.sizes) < min(case.held_sizes)
    for case in beyond(dict(made_up()), 4, above=False):
        assert min(case.sizes) > max(case.held_sizes)


def test_points_by_log_scale():
    assert by_log_scale([1, 2, 3, 4, 8, 27, 30, 64], 4) == [1, 4, 27, 64]  # wanted are 1, 4, 16, 64


def test_nothing_of_a_family_is_in_the_fit_that_judges_it():
    data = dict(made_up())
    twisted = {key: {n: s * n if key[1] == "net0" else s for n, s in curve.items()} for key, curve in data.items()}
    assert benchmark.doubts(data)["net0"] == benchmark.doubts(twisted)["net0"]
    assert benchmark.doubts(data)["net1"] != benchmark.doubts(twisted)["net1"]


def test_a_fit_covers_what_it_was_fitted_to():
    data = dict(made_up())
    cases = [case for points in (4, 6) for case in between(data, points)]
    assert coverage(cases, fitted(data)) == pytest.approx(0.90, abs=0.02)


def test_errors_by_hand():
    case = Case("s", "n", "g", (4.0, 8.0), (1.0, 2.0), (6.0,), (1.2,))
    assert case.errors == [pytest.approx(1.5 / 1.2 - 1)]
    assert case.strays == [pytest.approx(1 - 1.2 / 1.5)]
    assert benchmark.mean_error([case]) == benchmark.mean_error([case], benchmark.straight_lines)


def test_families_go_together():
    assert family_of("bert-glue-CoLA") == family_of("squad/bert_base_uncased/adamw") == "bert"
    assert family_of("cifar10") == family_of("imagenet/resnet50/adadelta") == "image"
    assert family_of("yolov3") == "yolov3"


# --- the published figures ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curves():
    return step_curves(data_folder())


@needs_data
def test_no_other_interpolation_does_better(curves):
    cases = between(curves, 4)
    for source in {case.source for case in cases}:
        mine = [case for case in cases if case.source == source]
        for name, interpolation in benchmark.CANDIDATES.items():
            assert benchmark.mean_error(mine) <= benchmark.mean_error(mine, interpolation) + 1e-9, (source, name)


@needs_data
def test_mean_errors_between_four_points_are_as_published(curves):
    cases = between(curves, 4)
    assert len(cases) == 74
    assert benchmark.mean_error(case for case in cases if case.source == "sia") <= 0.0545
    assert benchmark.mean_error(cases) <= 0.0425


@needs_data
def test_the_constants_are_those_of_the_fit(curves):
    assert astuple(fitted(curves)) == pytest.approx(astuple(PUBLISHED), rel=0.05)


@needs_data
def test_intervals_hold_about_as_many_points_as_they_say(curves):
    fits = benchmark.doubts(curves)
    for cases in (between(curves, 4), [*beyond(curves, 4, above=True)], [*beyond(curves, 4, above=False)]):
        inside = [hit for case in cases for hit in case.inside(fits[case.family])]
        assert fmean(inside) == pytest.approx(0.90, abs=0.03)


def test_without_the_data_it_says_where_it_looked(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "nowhere"))
    assert benchmark.report() == 2
    assert (
        capsys.readouterr().err
        == f"there is no published data in {tmp_path / 'nowhere'}. Set {DATA_VARIABLE} to the folder that has it\n"
    )
