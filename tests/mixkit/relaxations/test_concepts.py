"""The concept bottleneck: its choice, gradients and report."""

import pickle

import pytest
import torch

from mixkit.relaxations import Simple
from mixkit.relaxations.concepts import ConceptBottleneck


def bottleneck(num_selected=2, dtype=torch.float64, **options):
    return ConceptBottleneck(5, 3, num_selected, generator=torch.Generator().manual_seed(0), dtype=dtype, **options)


def similarities(*batch, dtype=torch.float64):
    return torch.randn(*batch, 5, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("num_selected", [1, 2, 5])
def test_exactly_so_many_concepts_are_shown(training, num_selected, generator):
    shown = bottleneck(num_selected).train(training).shown(similarities(4, 6), generator)
    assert shown.shape == (4, 6, 5)
    assert ((shown != 0).sum(-1) == num_selected).all()


def test_starts_as_the_concepts_themselves():
    x = similarities(4)
    torch.testing.assert_close(bottleneck().activations(x), x)


def test_evaluation_is_the_top_k_by_hand():
    layer, x = bottleneck(mixing=True).eval(), similarities(6)
    layer.bottleneck.data = similarities(5)
    activations = x @ layer.bottleneck.T
    expected = torch.zeros(6, 3, dtype=torch.float64)
    for row in range(6):
        for i in activations[row].abs().argsort(descending=True)[:2]:
            expected[row] += activations[row, i] * layer.head[:, i]
    torch.testing.assert_close(layer(x), expected)


def test_choosing_everything_is_the_linear_model(generator):
    layer, x = bottleneck(5), similarities(4)
    torch.testing.assert_close(layer(x, generator), x @ layer.head.T)


@pytest.mark.parametrize("sampler", [None, Simple()], ids=["straight-through", "simple"])
def test_concepts_not_chosen_learn_too(sampler, generator):
    layer = bottleneck(1, sampler=sampler)
    layer(similarities(1), generator)[0, 0].backward()
    assert (layer.log_scale.grad != 0).all()


def test_gradcheck_in_evaluation_and_at_extremes(generator):
    layer = bottleneck().eval()
    assert torch.autograd.gradcheck(layer, (similarities(3).requires_grad_(True),))
    x = torch.tensor([[1e4, -1e4, 0.0, 1e4, 1.0]], dtype=torch.float64, requires_grad=True)
    layer.train()(x, generator).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_report_explains_the_prediction():
    layer, x = bottleneck(concept_names=list("abcde"), class_names=["x", "y", "z"]).eval(), similarities(6)
    report, logits = layer.report(x), layer(x)
    assert torch.equal(report.predicted, logits.argmax(-1))
    torch.testing.assert_close(report.contributions.sum(-1), logits.amax(-1))
    torch.testing.assert_close(report.probability, torch.softmax(logits, -1).amax(-1))
    text = str(report)
    assert text.count("probability") == 6
    first = report.class_names[int(report.predicted[0])]
    assert text.startswith(f"0: {first} ")
    assert f"  {'abcde'[int(report.concepts[0, 0])]} (activation" in text


def test_report_does_not_depend_on_the_mode():
    layer, x = bottleneck(), similarities(6)
    assert str(layer.report(x)) == str(layer.eval().report(x))


def test_choice_frequency_counts_the_report():
    layer, x = bottleneck(), similarities(50)
    frequency, report = layer.choice_frequency(x), layer.report(x)
    for label in report.predicted.unique().tolist():
        chosen = report.concepts[report.predicted == label]
        expected = torch.bincount(chosen.flatten(), minlength=5).double() / len(chosen)
        torch.testing.assert_close(frequency[label], expected)


def test_alignment_is_the_mean_correlation():
    layer, x = bottleneck(mixing=True), similarities(30)
    assert layer.alignment(x).item() == pytest.approx(1)
    layer.bottleneck.data = similarities(5)
    correlation = torch.corrcoef(torch.cat((layer.activations(x), x), -1).T)[:5, 5:].diagonal()
    torch.testing.assert_close(layer.alignment(x), correlation.mean())
    assert torch.autograd.gradcheck(layer.alignment, (x.requires_grad_(True),))


def test_alignment_of_a_constant_concept_is_zero_with_finite_gradients():
    layer, x = bottleneck(mixing=True), torch.ones(4, 5, dtype=torch.float64, requires_grad=True)
    layer.alignment(x).backward()
    assert layer.alignment(x).item() == 0
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(layer.bottleneck.grad).all()


def test_vmap_and_compile():
    layer, x = bottleneck().eval(), similarities(6)
    torch.testing.assert_close(torch.func.vmap(layer)(x), layer(x))
    torch.testing.assert_close(torch.compile(layer, backend="aot_eager")(x), layer(x))


def test_state_pickle_seed_and_repr():
    layer, x = bottleneck(), similarities(4)
    again = pickle.loads(pickle.dumps(layer))
    seeds = [torch.Generator().manual_seed(2) for _ in range(2)]
    assert torch.equal(layer(x, seeds[0]), again(x, seeds[1]))
    other = ConceptBottleneck(5, 3, 2, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(layer.eval()(x), other.eval()(x))
    assert "num_selected=2" in repr(layer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_follows(dtype, generator):
    assert bottleneck(dtype=dtype)(similarities(4, dtype=dtype), generator).dtype == dtype


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: bottleneck(6), "num_selected must be at most 5"),
        (lambda: bottleneck(0), "num_selected must be at least 1"),
        (lambda: bottleneck(concept_names=["one"]), "concept_names must have 5 names"),
        (lambda: bottleneck(class_names=["one"]), "class_names must have 3 names"),
        (lambda: bottleneck()(torch.zeros(2, 4)), "similarities must have 5 concepts"),
        (lambda: bottleneck()(torch.full((2, 5), torch.nan)), "similarities must be finite"),
        (lambda: bottleneck().report(torch.zeros(5)), r"similarities must have shape \(n, num_concepts\)"),
    ],
)
def test_bad_input_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def made_by(concepts, k, n=1500, seed=0):
    """Rows whose class is drawn by three of k concepts, present or absent."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, k, generator=generator)
    logits = 2.0 * x[:, concepts] @ torch.randn(3, len(concepts), generator=generator).T
    noise = -(-torch.rand(logits.shape, generator=generator).log()).log()
    return x, (logits + noise).argmax(-1), generator


@pytest.mark.parametrize("seed", [0, 1])
def test_data_made_by_concepts_name_them(seed):
    """The layer used to turn its activations into other quantities than their names say, without a loss on them."""
    x, y, generator = made_by([0, 3, 7], 10, seed=seed)
    layer = ConceptBottleneck(10, 3, 3, generator=generator)
    optimizer = torch.optim.Adam(layer.parameters(), lr=5e-2)
    for _ in range(120):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(x, generator), y).backward()
        optimizer.step()
    report = layer.report(x)
    often = torch.bincount(report.concepts.flatten(), minlength=10).topk(3).indices
    assert sorted(often.tolist()) == [0, 3, 7]
    assert layer.alignment(x).item() == pytest.approx(1.0, abs=1e-6)
    assert (report.activations < 0).float().mean() > 0.3  # a concept speaks by its absence, too


def test_an_absent_concept_is_shown_with_its_sign():
    layer = bottleneck(1).eval()
    x = torch.tensor([[0.1, -3.0, 0.2, 0.0, 1.0]], dtype=torch.float64)
    report = layer.report(x)
    assert report.concepts.tolist() == [[1]]
    assert report.activations.tolist() == [[-3.0]]
