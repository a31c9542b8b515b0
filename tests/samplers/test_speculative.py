"""How often speculative sampling accepts its one draft."""

import pytest
import torch

from samplers import SpeculativeSampling


def test_acceptance_is_one_less_the_total_variation(generator):
    laws = torch.rand(2, 7, 5, dtype=torch.float64, generator=generator).pow(3)
    target, draft = laws / laws.sum(-1, keepdim=True)
    found = SpeculativeSampling().acceptance(target, draft[:, None])
    torch.testing.assert_close(found, 1.0 - 0.5 * (target - draft).abs().sum(-1), rtol=0, atol=1e-14)
    equal = SpeculativeSampling().acceptance(target, target[:, None])
    torch.testing.assert_close(equal, torch.ones(7, dtype=torch.float64))


def test_acceptance_of_several_drafts_is_refused():
    uniform = torch.full((3, 4), 0.25)
    with pytest.raises(ValueError, match=r"drafts must have shape \(r, 1, v\) .*, got \(3, 2, 4\)"):
        SpeculativeSampling().acceptance(uniform, uniform[:, None].expand(3, 2, 4))
