"""Query-key scores, online k-means, tuned temperatures and the distances of what a gate selects."""

import math

import pytest
import torch

from mixkit.gates import entropy, softmax_gate
from mixkit.gates.scores import OnlineKMeansScore, QueryKeyNormScore, balanced_top_w
from mixkit.gates.separation import selected_distances
from mixkit.gates.temperatures import InputTemperature
from mixkit.gates.tuned_temperatures import PositionTemperature, TargetEntropyTemperature


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clusters(n=600, seed=0):
    """Directions around three centers that are far apart, and the exact mean direction of each group."""
    generator = seeded(seed)
    centers = torch.eye(5, dtype=torch.float64)[:3]
    label = torch.arange(n) % 3
    x = centers[label] + 0.1 * torch.randn(n, 5, dtype=torch.float64, generator=generator)
    x = x * (1.0 + 3.0 * torch.rand(n, 1, dtype=torch.float64, generator=generator))
    unit = x / x.norm(dim=-1, keepdim=True)
    return x, label, torch.stack([unit[label == j].mean(0) for j in range(3)])


def test_online_k_means_finds_separated_clusters():
    x, label, means = clusters()
    score = OnlineKMeansScore(5, 3, decay=0.9, dtype=torch.float64)
    for _ in range(100):
        score.update(x)
    order = [int(score(x[label == j]).mean(0).argmax()) for j in range(3)]
    assert sorted(order) == [0, 1, 2]
    error = (score.centroid[order] - means).norm(dim=-1) / means.norm(dim=-1)
    assert error.max() < 0.02
    assert (score(x).argmax(-1) == torch.tensor(order)[label]).all()


def test_online_k_means_in_batches_follows_the_decay():
    score = OnlineKMeansScore(2, 1, decay=0.75, dtype=torch.float64)
    score.update(torch.tensor([[2.0, 0.0]], dtype=torch.float64))
    score.update(torch.tensor([[0.0, 3.0], [0.0, 1.0]], dtype=torch.float64))
    torch.testing.assert_close(score.centroid, torch.tensor([[0.75, 0.25]], dtype=torch.float64))


def test_online_k_means_resumes():
    x, _, _ = clusters()
    score, twin = (OnlineKMeansScore(5, 3, decay=0.5, dtype=torch.float64) for _ in range(2))
    score.update(x[:200])
    twin.load_state_dict(score.state_dict())
    score.update(x[200:]), twin.update(x[200:])
    assert torch.equal(score.centroid, twin.centroid)
    low = OnlineKMeansScore(5, 3, decay=0.999).to(torch.bfloat16)
    low.update(x.bfloat16())
    assert low.centroid.dtype == torch.float32
    assert not list(low.parameters())


def test_online_k_means_leaves_centroids_without_rows_alone():
    score = OnlineKMeansScore(2, 2, decay=0.5)
    score.update(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    before = score.centroid.clone()
    score.update(torch.tensor([[1.0, 0.1]]))
    assert int((score.centroid != before).any(-1).sum()) == 1


def test_bad_updates_are_refused():
    score = OnlineKMeansScore(2, 2)
    with pytest.raises(ValueError, match="x must be finite"):
        score.update(torch.tensor([[torch.nan, 1.0]]))
    with pytest.raises(ValueError, match="x must have a row"):
        score.update(torch.zeros(0, 2))
    with pytest.raises(ValueError, match="decay must be from 0 to below 1"):
        OnlineKMeansScore(2, 2, decay=1.0)


def test_balanced_clusters_have_equal_rows():
    scores = torch.randn(2, 10, 3, generator=seeded())
    mask = balanced_top_w(scores, 4)
    assert (mask.sum(-2) == 4).all()
    for batch in range(2):
        for j in range(3):
            assert set(mask[batch, :, j].nonzero().flatten().tolist()) == set(
                scores[batch, :, j].topk(4).indices.tolist()
            )
    assert balanced_top_w(torch.zeros(5, 1), 2).flatten().tolist() == [True, True, False, False, False]
    with pytest.raises(ValueError, match="num_rows must be at most 10"):
        balanced_top_w(scores, 11)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_online_k_means_goes_by_directions_alone(scale):
    rows, (plain, scaled) = torch.randn(20, 3, generator=seeded()), (OnlineKMeansScore(3, 4) for _ in range(2))
    plain.update(rows)
    scaled.update(scale * rows)
    torch.testing.assert_close(scaled.centroid, plain.centroid)
    torch.testing.assert_close(scaled(scale * rows), plain(rows))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_query_key_scores_do_not_depend_on_lengths(scale):
    score = QueryKeyNormScore(3, 4, 2, bias=False, generator=seeded())
    x = torch.randn(6, 3, generator=seeded(1))
    torch.testing.assert_close(score(scale * x), score(x), rtol=1e-4, atol=1e-5)
    assert torch.equal(score(torch.zeros(1, 3)), torch.zeros(1, 4))


def test_positions_cool_the_scores_like_the_logarithm_of_their_number():
    x = torch.randn(4, 2, dtype=torch.float64, generator=seeded())
    base = InputTemperature(2, dtype=torch.float64)
    with torch.no_grad():
        base.weight.copy_(torch.tensor([0.3, -0.2]))
    value = PositionTemperature(base, initial=0.25, dtype=torch.float64)(x).detach()
    expected = [float(base(x).detach()[i]) / (1.0 + 0.25 * math.log(i + 1)) for i in range(4)]
    torch.testing.assert_close(value.flatten(), torch.tensor(expected, dtype=torch.float64))
    with pytest.raises(ValueError, match="initial must be above 0 and below 1"):
        PositionTemperature(initial=1.0)
    with pytest.raises(TypeError, match="base must be a Temperature"):
        PositionTemperature(2.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_positions_beyond_half_precision_have_temperatures(dtype):
    temperature, x = PositionTemperature(dtype=dtype), torch.zeros(70_000, 1, dtype=dtype)
    found, expected = temperature(x), 1.0 / (1.0 + 0.5 * torch.arange(1.0, 70_001.0).log())
    assert found.dtype == dtype
    torch.testing.assert_close(found.flatten(), expected.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=0.0)


@pytest.mark.parametrize("target", [0.01, 0.5, 1.3])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_the_entropy_is_the_target(target, scale):
    scores = scale * torch.randn(50, 4, dtype=torch.float64, generator=seeded()) + 1e6
    temperature = TargetEntropyTemperature(target, dtype=torch.float64)
    temperature.tune(scores)
    found = entropy(temperature.divide(scores - 1e6, scores).log_softmax(-1)).mean()
    assert float(found) == pytest.approx(target, rel=1e-6)


def test_targets_out_of_reach_are_refused():
    with pytest.raises(ValueError, match="target must be between"):
        TargetEntropyTemperature(1.5).tune(torch.randn(9, 4, generator=seeded()))
    with pytest.raises(ValueError, match="target must be between"):
        TargetEntropyTemperature(0.5).tune(torch.zeros(9, 4))
    with pytest.raises(ValueError, match="must be finite"):
        TargetEntropyTemperature(0.5).tune(torch.full((9, 4), torch.nan))


def test_distances_of_the_selected_by_all_pairs():
    x = torch.randn(30, 3, dtype=torch.float64, generator=seeded())
    selected = softmax_gate(3, 4, dtype=torch.float64, generator=seeded())(x) > math.log(0.25)
    found = selected_distances(x, selected)
    for j in range(4):
        rows, others = x[selected[:, j]], x[~selected[:, j]]
        pairs = torch.pdist(rows).mean()
        torch.testing.assert_close(found.within[j], pairs)
        torch.testing.assert_close(found.between[j], torch.cdist(rows, others).mean())


def test_distances_without_pairs_are_not_numbers():
    found = selected_distances(torch.zeros(3, 1), torch.tensor([[True, True], [False, True], [False, True]]))
    assert found.within.isnan().tolist() == [True, False]
    assert found.between.isnan().tolist() == [False, True]
    with pytest.raises(TypeError, match="selected must be a boolean tensor"):
        selected_distances(torch.zeros(3, 1), torch.zeros(3, 2))
