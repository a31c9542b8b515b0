"""Decoding by token trees: each tree in one pass of the model, beside a row of the batch for every prefix.

A GPT-2 of random weights is target and draft at once, so that whole paths are accepted. Both ways use the same KV
cache and give the same tokens; a number is milliseconds a round, prompt and drafting included.

Run ``python benchmarks/token_trees.py``, or with ``--quick`` for a smaller model and less text.
"""

import argparse
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from samplers import OptimalVerifier, SampledTree, SpeculativeDecoder, TreeVerifier
from samplers.adapters.huggingface import KeyValueScorer
from samplers.decoding import Scorer


class Rows(KeyValueScorer):
    """The same cache, with a row for every prefix of a tree."""

    tree_scores = Scorer.tree_scores


def make_model(width: int, num_layers: int, num_positions: int) -> GPT2LMHeadModel:
    """Return a GPT-2 of random weights."""
    config = GPT2Config(
        vocab_size=8000,
        n_positions=num_positions,
        n_embd=width,
        n_layer=num_layers,
        n_head=8,
        bos_token_id=0,
        eos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GPT2LMHeadModel(config).eval()


def seconds_a_round(kind: type[KeyValueScorer], model: GPT2LMHeadModel, prompts: torch.Tensor, num_new: int) -> float:
    """Processor seconds of one round of drafting, scoring and verifying."""
    tree = SampledTree(kind(model), (4, 2, 1))
    decoder = SpeculativeDecoder(kind(model), tree, TreeVerifier(OptimalVerifier()))
    started = time.process_time()
    out = decoder.decode(prompts, max_new_tokens=num_new, generator=0)
    return (time.process_time() - started) / int(out.statistics.target_calls.max())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    width, num_layers, num_new = (64, 2, 8) if quick else (384, 6, 24)
    model = make_model(width, num_layers, 1024)
    print(f"{'batch':>6}{'prompt':>8}{'one pass (ms)':>15}{'rows (ms)':>11}{'ratio':>7}")
    for batch in (1, 4):
        for length in (32, 128) if quick else (128, 512):
            prompts = torch.randint(8000, (batch, length), generator=torch.Generator().manual_seed(0))
            seconds = [
                min(seconds_a_round(kind, model, prompts, num_new) for _ in range(2)) for kind in (KeyValueScorer, Rows)
            ]
            once, rows = (1e3 * value for value in seconds)
            print(f"{batch:>6}{length:>8}{once:>15.1f}{rows:>11.1f}{rows / once:>7.2f}", flush=True)


if __name__ == "__main__":
    main()
