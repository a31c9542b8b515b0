"""The gates of the papers, by hand."""

import math

import numpy as np
import torch

from mixkit.gates import Gate
from mixkit.gates.scores import LinearScore
from mixkit.gates.selections import NoisyTopK, TopKByScore
from tests.mixkit.gate_table import NAMED_GATES, SELECTED, D, K, build, normal, seeded

INF = torch.inf


class TestPapers:
    """The named gates, written out in NumPy row by row."""

    x = normal(30, D)

    def weights(self, gate, row_weights):
        parts = {name.removeprefix("score."): p.detach().numpy() for name, p in gate.named_parameters()}
        expected = np.array([row_weights(row, **parts) for row in self.x.numpy()])
        np.testing.assert_allclose(gate(self.x).exp().detach().numpy(), expected, rtol=1e-12, atol=1e-15)

    @staticmethod
    def softmax(scores):
        values = np.exp(scores)
        return values / values.sum()

    def test_softmax(self):
        gate = build(NAMED_GATES["softmax_gate"])
        self.weights(gate, lambda x, weight, bias: self.softmax(weight @ x + bias))

    def test_topk_ranks_without_the_bias(self):
        def rows(x, weight, bias):
            v = weight @ x
            kept = np.sort(v)[-SELECTED]
            return self.softmax(np.where(v >= kept, v + bias, -np.inf))

        gate = build(NAMED_GATES["topk_gate"])
        self.weights(gate, rows)
        by_score = Gate(gate.score, selection=TopKByScore(SELECTED))
        assert not torch.equal(by_score(self.x) > -INF, gate(self.x) > -INF)

    def test_dense_to_sparse(self):
        gate = build(NAMED_GATES["dense_to_sparse_gate"])
        temperature = gate.temperature.log_temperature.exp().item()
        assert temperature != 1.0
        rename = {"temperature.log_temperature": "log_tau"}

        def rows(x, weight, bias, **rest):
            assert rest.keys() == rename.keys()
            return self.softmax((weight @ x + bias) / temperature)

        self.weights(gate, rows)

    def test_activation(self):
        gate = build(NAMED_GATES["activation_gate"])
        temperature = gate.temperature(self.x).item()
        self.weights(gate, lambda x, weight, bias, **rest: self.softmax((np.tanh(weight @ x) + bias) / temperature))

    def test_sigmoid(self):
        def rows(x, weight, bias):
            values = 1 / (1 + np.exp(-(weight @ x + bias)))
            return values / values.sum()

        self.weights(build(NAMED_GATES["sigmoid_gate"]), rows)

    def test_laplace(self):
        gate = build(NAMED_GATES["laplace_gate"])
        self.weights(gate, lambda x, center, bias: self.softmax(-np.linalg.norm(x - center, axis=-1) + bias))

    def test_constant(self):
        self.weights(build(NAMED_GATES["constant_gate"]), lambda x, bias: self.softmax(bias))

    def test_noisy_gate_of_shazeer(self):
        score = build(lambda **o: LinearScore(D, K, generator=seeded(), dtype=torch.float64))
        gate = Gate(score, selection=NoisyTopK(SELECTED, D, K, dtype=torch.float64))
        noise = torch.randn(30, K, generator=seeded(), dtype=torch.float64)
        scores = score(self.x) + noise * math.log(2.0)
        kept = torch.where(scores >= scores.topk(SELECTED).values[:, -1:], scores, -INF)
        torch.testing.assert_close(gate(self.x, seeded()), torch.log_softmax(kept, -1))
