"""Tables, pictures, the report, the TOML file and the command."""

import matplotlib as mpl
import numpy as np
import pytest

from estimators.rates import BlockLoss, DensityLoss, ExactLoss, StudyResults, read_study
from estimators.rates.__main__ import main
from estimators.rates.plotting import _label_losses
from mixkit.gates.normalizers import NormalizedSigmoid, Softmax

from .designs import compared_study, small_study

DESIGN = """
sample_sizes = [60, 120]
num_replicates = 2
seed = 3
losses = [{kind = "D1"}, {kind = "density", points = 4}]
covariates = {kind = "uniform", low = -1.0}
start = {kind = "oracle"}

[truth]
gate_bias = [0.3, 0.0]
gate_weight = [[4.0], [0.0]]
slope = [[2.0], [-2.0]]
intercept = [0.0, 1.5]
variance = [0.1, 0.2]

[candidates.exact]
estimator = {kind = "EM"}

[candidates.direct]
estimator = {kind = "MLE", n_init = 2}
start = {kind = "near-truth", std = 0.01}
gate = {kind = "softmax"}
"""

THREE = """
estimator = {kind = "EM"}
num_experts = 3
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "study.sqlite"
    losses = [ExactLoss(), BlockLoss(), DensityLoss(points=4)]
    return small_study(losses=losses, sample_sizes=[60, 120, 240], num_replicates=4).run(path, progress=False)


def test_tables_hold_what_the_rows_do(results):
    table, sizes = results.table(), results.sizes_table()
    assert set(table.loss) >= {
        "D1", "mass", "gate", "slope alone", "intercept alone", "variance alone", "hellinger", "total variation", "kl"
    }  # fmt: skip
    d1 = table[table.loss == "D1"].iloc[0]
    assert (d1["n from"], d1["n to"], d1["theory"]) == (60, 240, -0.5)
    assert d1["verdict"] in ("agrees", "slower", "faster", "undecided")
    assert "2305.03288" in d1["source"]
    at_60 = sizes[(sizes.loss == "D1") & (sizes.n == 60)].iloc[0]
    values = [row.losses["D1"] for row in results.rows_of("fit", 60)]
    assert at_60["median"] == np.median(values)
    assert at_60["fits"] == len(values) == 4
    assert d1["median at largest n"] == np.median([row.losses["D1"] for row in results.rows_of("fit", 240)])


def test_missing_losses_are_counted(results):
    for _, record in results.sizes_table().iterrows():
        values = [row.losses[record["loss"]] for row in results.rows_of("fit", record["n"])]
        assert record["missing"] == np.isnan(values).sum()
        assert record["fits"] == len(values)
    assert "slope shared" in results.loss_names


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda results: results.losses("fit", "D3"), r"name must be among the losses \['D1', .*got 'D3'"),
        (lambda results: results.slope("fit", "nope"), "name must be among the losses .*got 'nope'"),
        (lambda results: results.losses("two", "D1"), r"candidate must be among \['fit'\], got 'two'"),
    ],
)
def test_unknown_names_are_refused(results, call, message):
    with pytest.raises(ValueError, match=message):
        call(results)


def test_a_slope_of_one_size_is_refused(tmp_path):
    results = small_study(sample_sizes=[60]).run(tmp_path / "study.sqlite", progress=False)
    with pytest.raises(ValueError, match=r"'D1', which it has at sizes \[60\]"):
        results.slope("fit", "D1")


@pytest.mark.parametrize(("old", "new"), [("[60, 120]", "[60]"), ("num_replicates = 2", "num_replicates = 1")])
def test_the_command_reports_without_slopes_where_there_are_none(tmp_path, capsys, old, new):
    design, out = tmp_path / "design.toml", tmp_path / "out"
    design.write_text(DESIGN.replace(old, new), encoding="utf-8")
    assert main([str(design), "--out", str(out), "--quiet"]) == 0
    assert "No rates.csv: slopes need two sizes or more" in capsys.readouterr().out
    assert not (out / "rates.csv").exists()
    assert "hellinger" in (out / "sizes.csv").read_text(encoding="utf-8")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "No slopes: they need a loss at two sample sizes or more" in page
    assert "4 of 4 fits done" in page


def test_a_report_in_no_folder_is_refused(results, tmp_path):
    for path in (tmp_path / "none" / "report.html", tmp_path):
        with pytest.raises(ValueError, match="path must be a file in a directory that exists, got"):
            results.report(path)


@pytest.mark.usefixtures("_agg")
@pytest.mark.parametrize("limits", [(0.06, 0.2), (0.11, 0.19), (0.51, 0.55), (0.003, 4.0), (2.0, 30.0)])
def test_axes_of_losses_have_a_few_labels(limits):
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots()
    ax.set(yscale="log", ylim=limits)
    _label_losses(ax)
    figure.canvas.draw()
    ticks = zip(ax.yaxis.get_majorticklocs(), ax.yaxis.get_majorticklabels(), strict=True)
    shown = [text.get_text() for y, text in ticks if limits[0] <= y <= limits[1]]
    assert 2 <= len(set(shown)) == len(shown) <= 9
    assert not any(text.get_text() for text in ax.yaxis.get_minorticklabels())
    plt.close(figure)


@pytest.fixture
def _agg():
    before = mpl.get_backend()
    mpl.use("Agg")
    yield
    mpl.use(before)


@pytest.mark.usefixtures("_agg")
def test_pictures_have_a_panel_a_loss(results):
    from matplotlib import pyplot as plt

    figure = results.plot(["D1", "hellinger"])
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["D1", "hellinger"]
    assert all(ax.get_xscale() == ax.get_yscale() == "log" for ax in figure.axes)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels[1] == "theory -0.5"
    plt.close(figure)
    with pytest.raises(ValueError, match="names must be among"):
        results.plot(["D7"])


@pytest.mark.usefixtures("_agg")
def test_the_report_needs_nothing_else(results, tmp_path):
    results.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page
    assert "src='http" not in page
    assert "href=" not in page
    assert "12 of 12 fits done" in page
    assert "Oracle()" in page
    assert "seed: 1" in page


@pytest.mark.usefixtures("_agg")
def test_the_command_runs_resumes_and_reports(tmp_path, capsys):
    design = tmp_path / "design.toml"
    design.write_text(DESIGN, encoding="utf-8")
    out = tmp_path / "out" / "deep"
    assert main([str(design), "--out", str(out), "--quiet"]) == 0
    assert "8 of 8 fits" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} >= {"results.sqlite", "rates.csv", "sizes.csv", "report.html"}
    design.write_text(DESIGN.replace("num_replicates = 2", "num_replicates = 3"), encoding="utf-8")
    assert main([str(design), "--out", str(out), "--quiet"]) == 0
    assert "12 of 12 fits" in capsys.readouterr().out
    design.write_text(DESIGN.replace("seed = 3", "seed = 4"), encoding="utf-8")
    assert main([str(design), "--out", str(out), "--quiet"]) == 2
    assert "another design: seed differ" in capsys.readouterr().err


def test_a_design_reads_into_a_study(tmp_path):
    path = tmp_path / "design.toml"
    path.write_text(DESIGN, encoding="utf-8")
    study = read_study(path)
    assert list(study.candidates) == ["exact", "direct"]
    assert study.covariates.low == -1.0
    assert study.sample_sizes == [60, 120]


def test_candidates_of_a_file_fit_the_gate_of_the_truth_unless_they_say_another(tmp_path):
    path = tmp_path / "design.toml"
    path.write_text(
        'gate = {kind = "sigmoid"}\n' + DESIGN.replace('estimator = {kind = "EM"}', THREE), encoding="utf-8"
    )
    study = read_study(path)
    gates = [study.candidates[name].new_gate(1, k) for name, k in (("exact", 3), ("direct", 2))]
    assert [type(gate.normalizer) for gate in gates] == [NormalizedSigmoid, Softmax]
    assert gates[0].num_experts == 3
    found = StudyResults(study, {})
    assert set(found.theoretical_rates("exact")) == {"hellinger", "total variation", "kl"}
    assert found.theoretical_rates("direct") == {}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed = 3", "", "design must have keys"),
        ("seed = 3", "seed = 3\ncolor = 1", "color"),
        ('kind = "D1"', 'kind = "D9"', "losses must be a table with a kind among"),
        ('kind = "EM"', 'kind = "SGD"', "candidates.exact.estimator must be a table with a kind"),
        ("[truth]", "[truth", "design must be a TOML file"),
        ("variance = [0.1, 0.2]", "", "truth must have keys"),
        ("gate_bias = [0.3, 0.0]", 'gate_bias = ["a", 1]', r"truth.gate_bias must be a list of numbers.* \['a', 1\]"),
        ("n_init = 2", "n_init = 0", "n_init must be at least 1"),
        ('gate = {kind = "softmax"}', 'gate = {kind = "soft"}', "gate must be a table with a kind among"),
    ],
)
def test_bad_designs_are_refused(tmp_path, old, new, message):
    path = tmp_path / "design.toml"
    path.write_text(DESIGN.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_study(path)


def test_unknown_settings_name_the_candidate(tmp_path):
    path = tmp_path / "design.toml"
    path.write_text(DESIGN.replace("n_init = 2", "n_inits = 2"), encoding="utf-8")
    with pytest.raises(TypeError, match=r"candidates.direct.estimator of kind 'MLE': .*unexpected .*'n_inits'"):
        read_study(path)


def test_gates_that_lack_a_setting_are_refused(tmp_path):
    path = tmp_path / "design.toml"
    path.write_text(DESIGN.replace('kind = "softmax"', 'kind = "top-k"'), encoding="utf-8")
    with pytest.raises(TypeError, match=r"gate of options \{\}: .*num_selected"):
        read_study(path)


def test_nothing_to_draw_is_said(tmp_path):
    results = compared_study(sample_sizes=[60], num_replicates=1).run(tmp_path / "study.sqlite", progress=False)
    with pytest.raises(ValueError, match=r"results must have a loss at two sizes .* sample_sizes \[60\]"):
        results.table()
    with pytest.raises(ValueError, match="a loss at two sizes"):
        results.plot()
