"""What a round of decoding costs beside the models: ours, transformers' assisted decoding, and a loop by hand.

The models are GPT-2 of one layer and width 16 with random weights and a vocabulary of 50,257, so that almost nothing
but the loop is left; target and draft are the same, so every draft is accepted. A number is milliseconds of processor
time a round of five drafted tokens, less the time inside the models' forward passes. All run in turn in one loop and
the least of several repeats counts, so ratios hold on a busy machine where milliseconds do not.

``--pair`` measures tokens a second of a target of 124 million weights and a draft of its first two layers, beside plain
generation and transformers' assisted decoding (minutes).

Run ``python benchmarks/decoding.py``, or with ``--quick`` for fewer repeats.
"""

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from samplers import SampledTree, SpeculativeDecoder, Temperature
from samplers.adapters.huggingface import KeyValueScorer, speculative_generate

_NEW = 60
_DRAFT = 5


def make_model(width: int, num_layers: int, num_heads: int) -> GPT2LMHeadModel:
    """Return a GPT-2 of random weights."""
    config = GPT2Config(
        n_positions=512, n_embd=width, n_layer=num_layers, n_head=num_heads, bos_token_id=0, eos_token_id=None
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config).eval()
    model.generation_config.pad_token_id = 0
    return model


class Clock:
    """Processor seconds inside the forward passes of models."""

    def __init__(self, *models: GPT2LMHeadModel) -> None:
        self.seconds, self.calls = 0.0, 0
        for model in models:
            model.forward = self._timed(model.forward)

    def _timed(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.process_time()
            try:
                return forward(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - started
                self.calls += 1

        return timed

    def outside(self, function: Callable[[], int]) -> float:
        """Milliseconds a round outside the models of a function that returns its number of rounds."""
        self.seconds, started = 0.0, time.process_time()
        rounds = function()
        return 1e3 * (time.process_time() - started - self.seconds) / rounds


@torch.no_grad()
def by_hand(target: Any, draft: Any, prompt: torch.Tensor, sampled: bool) -> int:
    """One prompt, one draft: the least that a loop has to do. Return the number of rounds."""
    caches = DynamicCache(), DynamicCache()
    generator = torch.Generator().manual_seed(0)
    ids, rounds = prompt, 0

    def law(model: Any, cache: Any, count: int) -> torch.Tensor:
        new = ids[:, cache.get_seq_length() :]
        logits = model(input_ids=new, past_key_values=cache, use_cache=True, logits_to_keep=count).logits[0, -count:]
        return logits.softmax(-1) if sampled else logits

    def choose(weights: torch.Tensor) -> torch.Tensor:
        return torch.multinomial(weights, 1, generator=generator) if sampled else weights.argmax(-1, keepdim=True)

    while ids.shape[1] < prompt.shape[1] + _NEW:
        start, laws = ids.shape[1], []
        for _ in range(_DRAFT):
            laws.append(law(draft, caches[1], 1)[0])
            ids = torch.cat((ids, choose(laws[-1])[None]), 1)
        wanted, drafted, kept = law(target, caches[0], _DRAFT + 1), ids[0, start:].tolist(), 0
        best = None if sampled else wanted.argmax(-1).tolist()
        uniforms = torch.rand(_DRAFT, generator=generator).tolist()
        for token in drafted:
            ratio = float(wanted[kept, token] / laws[kept][token]) if best is None else float(best[kept] == token)
            if uniforms[kept] >= ratio:
                break
            kept += 1
        rest = wanted[kept]
        if sampled and kept < _DRAFT:
            rest = (rest - laws[kept]).clamp_(min=0)
        ids = torch.cat((ids[:, : start + kept], choose(rest)[None]), 1)
        for cache in caches:
            extra = cache.get_seq_length() - (start + kept)
            if extra > 0:
                cache.crop(-extra)
        rounds += 1
    return rounds


def assisted(target: Any, draft: Any, prompt: torch.Tensor, sampled: bool) -> int:
    """Transformers' assisted decoding."""
    draft.generation_config.num_assistant_tokens = _DRAFT
    draft.generation_config.num_assistant_tokens_schedule = "constant"
    draft.generation_config.assistant_confidence_threshold = 0.0
    settings = {"do_sample": sampled, "max_new_tokens": _NEW, "assistant_model": draft}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = target.generate(prompt, **settings, **({"top_k": 0} if sampled else {}))
    return -(-(out.shape[1] - prompt.shape[1]) // (_DRAFT + 1))


def ours(decoder: SpeculativeDecoder, prompts: torch.Tensor) -> int:
    """Decode; return the number of rounds."""
    out = decoder.decode(prompts, max_new_tokens=_NEW, generator=0)
    return int(out.statistics.target_calls.max())


def decoders(target: Any, draft: Any) -> dict[str, SpeculativeDecoder]:
    """Return the decoders that are measured, with their default verifiers."""

    def make(tree: Any = None, **settings: Any) -> SpeculativeDecoder:
        drafts = KeyValueScorer(draft) if tree is None else SampledTree(KeyValueScorer(draft), tree)
        return SpeculativeDecoder(KeyValueScorer(target), drafts, **settings)

    return {
        "one draft, sampled": make(draft_length=_DRAFT),
        "one draft, greedy": make(draft_length=_DRAFT, processors=Temperature(0)),
        "four drafts, sampled": make(num_drafts=4, draft_length=_DRAFT),
        "four drafts, greedy": make(num_drafts=4, draft_length=_DRAFT, processors=Temperature(0)),
        "tree (3, 2, 1), sampled": make((3, 2, 1)),
        "tree (3, 2, 1), greedy": make((3, 2, 1), processors=Temperature(0)),
    }


def overhead(repeats: int) -> None:
    """Print what a round costs beside the models."""
    target, draft = make_model(16, 1, 1), make_model(16, 1, 1)
    made = decoders(target, draft)
    clock = Clock(target, draft)
    prompts = {batch: torch.arange(20).repeat(batch, 1) + torch.arange(batch)[:, None] for batch in (1, 4)}
    runs: dict[tuple[str, int], Callable[[], int]] = {}
    for name, sampled in (("sampled", True), ("greedy", False)):
        runs[f"by hand, {name}", 1] = functools.partial(by_hand, target, draft, prompts[1], sampled)
        runs[f"transformers, {name}", 1] = functools.partial(assisted, target, draft, prompts[1], sampled)
    for batch in (1, 4):
        for name, decoder in made.items():
            runs[f"ours, {name}", batch] = functools.partial(ours, decoder, prompts[batch])
    least = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats):
        for key, function in runs.items():
            least[key] = min(least[key], clock.outside(function))
    print(f"{'':<34}{'batch':>6}{'ms a round':>12}{'over by hand':>14}")
    for (name, batch), milliseconds in least.items():
        hand = least["by hand, greedy" if name.endswith("greedy") else "by hand, sampled", 1]
        print(f"{name:<34}{batch:>6}{milliseconds:>12.2f}{milliseconds / hand:>14.1f}")


def pair(repeats: int) -> None:
    """Print tokens a second of a target of 124 million weights and a draft of its first two layers."""
    target, draft = make_model(768, 12, 12), make_model(768, 2, 12)
    draft.load_state_dict({name: target.state_dict()[name] for name in draft.state_dict()})
    for block in target.transformer.h[2:]:  # later layers change little, as in a trained pair
        block.attn.c_proj.weight.data.mul_(0.1)
        block.mlp.c_proj.weight.data.mul_(0.1)
    print(f"{'':<20}{'batch':>6}{'sampled':>10}{'greedy':>10}   tokens a second")
    for batch in (1, 4):
        prompts = torch.arange(64).repeat(batch, 1) + torch.arange(batch)[:, None]
        ways: dict[str, dict[str, Any]] = {
            "plain": {},
            "ours": {"custom_generate": speculative_generate, "draft": draft, "generator": 0},
        }
        if batch == 1:
            ways["transformers"] = {"assistant_model": draft}
        least = {(way, sampled): float("inf") for way in ways for sampled in (True, False)}
        for _ in range(repeats):
            for way, sampled in least:
                settings = {"do_sample": sampled, "max_new_tokens": _NEW, **({"top_k": 0} if sampled else {})}
                with torch.random.fork_rng():
                    torch.manual_seed(0)
                    started = time.process_time()
                    target.generate(prompts, attention_mask=torch.ones_like(prompts), **settings, **ways[way])
                least[way, sampled] = min(least[way, sampled], time.process_time() - started)
        for way in ways:
            speeds = [batch * _NEW / least[way, sampled] for sampled in (True, False)]
            print(f"{way:<20}{batch:>6}{speeds[0]:>10.1f}{speeds[1]:>10.1f}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--pair", action="store_true", help="tokens a second of a pair of models instead")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.pair:
        pair(1 if arguments.quick else 3)
    else:
        overhead(2 if arguments.quick else 5)


if __name__ == "__main__":
    main()
