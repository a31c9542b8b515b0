"""Every call that draws, as a function of logits ``(*batch, k)`` and a source of randomness."""

from collections.abc import Callable

import torch
from torch import Tensor

from mixkit.gates import Gate
from mixkit.gates.scores import LinearScore
from mixkit.gates.selections import NoisyTopK
from mixkit.relaxations import (
    ExponentialFamilySubset,
    GumbelRao,
    GumbelSoftmax,
    ImplicitMLE,
    LeaveOneOut,
    LogRelaxedOneHot,
    PerturbedTopK,
    PlackettLuceSubset,
    Rebar,
    ReinMax,
    RelaxedSubset,
    SampledTopK,
    Simple,
    StraightThrough,
    StraightThroughGumbelSoftmax,
    conditional_gumbel,
    expectation,
    sample_one_hot,
)

Draw = Callable[..., Tensor]  # of logits and generator

K = 6


def _subset(sampler):
    return lambda logits, generator=None: sampler(logits, 2, generator)


def _expectation(estimator):
    def draw(logits, generator=None):
        payoff = torch.arange(float(K)).to(logits)
        options = {"num_samples": 3, "generator": generator}
        return expectation(lambda c: (c * payoff).sum(-1).square(), logits, estimator=estimator, **options)

    return draw


def _gate(selection):
    score = LinearScore(K, K, generator=torch.Generator().manual_seed(0))
    gate = Gate(score, selection=selection)
    return lambda logits, generator=None: gate(logits, generator)


PATHS: dict[str, Draw] = {
    "gumbel_softmax": GumbelSoftmax(0.5),
    "straight_through_gumbel_softmax": StraightThroughGumbelSoftmax(0.5),
    "straight_through": StraightThrough(),
    "straight_through_tempered": StraightThrough(1.3),
    "gumbel_rao": GumbelRao(0.5, 3),
    "reinmax": ReinMax(),
    "reinmax_tempered": ReinMax(1.3),
    "simple": _subset(Simple()),
    "relaxed_subset": _subset(RelaxedSubset(0.5)),
    "relaxed_subset_hard": _subset(RelaxedSubset(0.5, hard=True)),
    "implicit_mle": _subset(ImplicitMLE()),
    "perturbed_top_k": _subset(PerturbedTopK(1.0, 8)),
    "log_relaxed": lambda q, generator=None: LogRelaxedOneHot(0.5, logits=q).rsample(generator=generator),
    "conditional_gumbel": lambda q, generator=None: conditional_gumbel(
        q, torch.eye(K)[0].expand(q.shape), generator=generator
    ).softmax(-1),
    "sampled_gate": _gate(SampledTopK(2, Simple())),
    "noisy_gate": _gate(NoisyTopK(2, K, K)),
}
"""Draws with a gradient in the logits."""

DRAWS: dict[str, Draw] = {
    **PATHS,
    "leave_one_out": _expectation(LeaveOneOut()),
    "rebar": _expectation(Rebar()),
    "sample_one_hot": lambda q, generator=None: sample_one_hot(q, generator=generator),
    "exponential_family": lambda q, generator=None: ExponentialFamilySubset(2, q).sample(generator=generator),
    "plackett_luce": lambda q, generator=None: PlackettLuceSubset(2, q).sample(generator=generator),
}
