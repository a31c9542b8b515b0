"""What cannot be enumerated or tested is refused, with the reason."""

import pytest
import torch

from samplers import NodeVerifier, SpeculativeSampling
from samplers.exactness import chi_square_test, joint_law, random_laws
from samplers.verification.node import Decision

LAWS = random_laws(4, 3, 2, 1, identical=True, generator=0)


class OwnNumbers(NodeVerifier):
    """Draws from the target, with random numbers of its own."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def node(self, node, source):
        token = torch.multinomial(node.target, 1, generator=self.generator)[:, 0]
        return Decision(token, node.target.gather(-1, token[:, None])[:, 0])


class OwnAcceptance(OwnNumbers):
    """Draws through the source, and accepts by a random number of its own."""

    def node(self, node, source):
        token = source.choose(node.target)
        own = torch.rand(node.num_rows, generator=self.generator) < 0.5
        return Decision(torch.where(own, node.tokens[:, 0], token), node.target.gather(-1, token[:, None])[:, 0])


class OnlyVerify:
    def verify(self, target_logits, draft_logits, draft_tokens, *, generator):
        return SpeculativeSampling().verify(target_logits, draft_logits, draft_tokens, generator=generator)


@pytest.mark.parametrize("verifier", [OwnNumbers(), OwnAcceptance()], ids=lambda verifier: type(verifier).__name__)
def test_random_numbers_of_its_own_are_refused(verifier):
    with pytest.raises(ValueError, match="must draw all its randomness from the RandomSource it is given"):
        joint_law(verifier, LAWS)


@pytest.mark.parametrize(
    ("verifier", "got"),
    [
        (OnlyVerify(), "got OnlyVerify"),
        (None, "got NoneType"),
        (SpeculativeSampling, "got the class SpeculativeSampling"),
    ],
)
def test_no_verifier_is_refused(verifier, got):
    with pytest.raises(TypeError, match=f"verifier must be an instance of Verifier .*{got}"):
        joint_law(verifier, LAWS)


@pytest.mark.parametrize("verifier", [None, OnlyVerify, object()])
def test_a_black_box_has_verify(verifier):
    with pytest.raises(TypeError, match="verifier must be an object with a method verify"):
        chi_square_test(verifier, LAWS, generator=0)


def test_too_many_tuples_are_refused():
    laws = random_laws(1, 10, 3, 6, identical=True, generator=0)
    with pytest.raises(ValueError, match=f"1 cases of {10**18} draft tuples"):
        joint_law(SpeculativeSampling(), laws)


@pytest.mark.parametrize("num_samples", [0, -1])
def test_no_samples_are_refused(num_samples):
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        chi_square_test(SpeculativeSampling(), LAWS, num_samples=num_samples, generator=0)


@pytest.mark.parametrize("place", range(4))
def test_no_cases_are_refused(place):
    sizes = [2, 3, 2, 1]
    sizes[place] = 0
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        random_laws(*sizes, identical=True, generator=0)


def test_a_seed_stands_for_its_generator():
    one = random_laws(2, 3, 1, 1, identical=True, generator=7)
    other = random_laws(2, 3, 1, 1, identical=True, generator=torch.Generator().manual_seed(7))
    assert torch.equal(one.target[1], other.target[1])
    assert chi_square_test(OnlyVerify(), one, num_samples=500, generator=7).passed
    with pytest.raises(TypeError, match=r"generator must be a torch.Generator or a seed, got str"):
        random_laws(2, 3, 1, 1, identical=True, generator="7")
