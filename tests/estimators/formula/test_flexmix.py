"""Models that R's users publish, each in one call, against the table of flexmix's fits."""

import numpy as np
import pytest
import torch

from estimators import fit_formula
from tests.estimators.flexmix_data import flexmix_frame
from tests.estimators.flexmix_fits import ROWS


@pytest.fixture(scope="module", params=ROWS)
def row_and_fit(request):
    row = ROWS[request.param]
    fit = fit_formula(row.formula, flexmix_frame(row.data), row.num_experts, random_state=0, **row.settings)
    return row, fit


def test_log_likelihoods_are_flexmix_s_or_higher(row_and_fit):
    row, fit = row_and_fit
    assert fit.converged
    if row.is_gaussian:
        assert row.llf - 1e-3 < fit.llf < row.llf + 0.05
    else:
        assert fit.llf == pytest.approx(row.llf, abs=1e-3)
    assert row.df is None or fit.df_model == row.df


def test_coefficients_and_standard_errors(row_and_fit):
    row, fit = row_and_fit
    own = {"abs": 0.02 if row.is_gaussian else 2e-4, "rel": 1e-2}
    for name, (value, error) in row.shared.items():
        assert fit.params[name] == pytest.approx(value, **own)
        assert error is None or fit.bse[name] == pytest.approx(error, rel=0.05 if row.is_gaussian else 1e-2)
    taken = set()
    for expected in row.experts:
        found = min(
            (j for j in range(row.num_experts) if j not in taken),
            key=lambda j: sum(abs(fit.params[label(name, j)] - value) for name, (value, _) in expected.items()),
        )
        taken.add(found)
        for name, (value, error) in expected.items():
            assert fit.params[label(name, found)] == pytest.approx(value, **own)
            if error is not None:  # divisors of variances differ by up to 3 of 46 rows
                assert fit.bse[label(name, found)] == pytest.approx(error, rel=0.06 if row.is_gaussian else 1e-2)


def label(name: str, expert: int) -> str:
    block, _, term = name.partition(",")
    return f"{block}[{expert},{term}]" if term else f"{block}[{expert}]"


def test_new_frames_are_encoded_as_those_of_the_fit(row_and_fit):
    row, fit = row_and_fit
    data = flexmix_frame(row.data)
    some = data.iloc[[5, 2]]
    np.testing.assert_allclose(fit.predict(some), fit.predict(data)[[5, 2]], rtol=1e-7, atol=1e-9)


def test_salmonella_s_standard_errors_are_those_of_the_exact_hessian():
    data = flexmix_frame("salmonellaTA98")
    fit = fit_formula("y ~ 1", data, 2, family="poisson", common="x + log(x + 10)", random_state=0)
    x, y = (torch.tensor(data[name].to_numpy(), dtype=torch.float64) for name in ("x", "y"))

    def log_likelihood(vector):
        named = dict(zip(fit.param_names, vector, strict=True))
        shared = named["slope[common,x]"] * x + named["slope[common,log(x + 10)]"] * torch.log(x + 10.0)
        weights = torch.log_softmax(torch.stack([named["gate_bias[0]"], vector.new_zeros(())]), 0)
        means = [(named[f"intercept[{j}]"] + shared).exp() for j in range(2)]
        joint = [weights[j] + torch.distributions.Poisson(mean).log_prob(y) for j, mean in enumerate(means)]
        return torch.logsumexp(torch.stack(joint), 0).sum()

    point = torch.tensor(np.array(fit.params))
    assert float(log_likelihood(point)) == pytest.approx(fit.llf, abs=1e-9)
    hessian = torch.autograd.functional.hessian(log_likelihood, point)
    np.testing.assert_allclose(fit.bse, torch.linalg.inv(-hessian).diagonal().sqrt(), rtol=1e-6)


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
def test_teeth_have_one_expert_and_as_many_as_one_wants():
    """Both experts of the second are those of the first, which is why it has no standard errors."""
    data = flexmix_frame("dmft")
    common = "log(Begin + 0.5) + Gender + Ethnic + Treatment"
    one = fit_formula(f"End ~ {common}", data, 1, family="poisson", random_state=0)
    two = fit_formula("End ~ 1", data, 2, family="poisson", common=common, random_state=0)
    assert two.llf == pytest.approx(-1236.609970, abs=1e-3)
    assert one.llf == pytest.approx(two.llf, abs=1e-3)
    name = "slope[0,log(Begin + 0.5)]"
    assert one.params[name] == pytest.approx(0.7303, abs=1e-4)
    assert one.bse[name] == pytest.approx(0.0392, rel=1e-2)


def test_articles_with_covariates_in_the_gate():
    """The example of the README; the maximum is higher than that of the constant gate by more than its parameters."""
    data = flexmix_frame("bioChemists")
    fit = fit_formula("art ~ fem + mar + ment | ment + phd", data, 2, family="poisson", common="kid5", random_state=0)
    assert fit.converged
    assert fit.formula == "art ~ fem + mar + ment | ment + phd; common: kid5"
    assert fit.param_names[:3] == ["gate_weight[0,ment]", "gate_weight[0,phd]", "gate_bias[0]"]
    assert "slope[common,kid5]" in fit.params
    constant = fit_formula("art ~ fem + mar + ment", data, 2, family="poisson", common="kid5", random_state=0)
    assert fit.llf > constant.llf
    assert "slope[0,phd]" not in fit.params
