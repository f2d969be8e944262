"""Sampling against transformers' generate, in turns within one process, at two LLaVA shapes.

    python -m bench.sampler --rounds 7 --json bench/results/sampler.json

Both draw from one distribution (temperature 1, nothing truncated, media tokens banned) for a fixed number of tokens
(the end of turn cannot be drawn), so that both do the same work. generate gets every prompt and picture once and
repeats them for every answer, which is how it draws several. Prints medians and their ratio.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import LlavaForConditionalGeneration

from bench.shapes import llava_config
from sightline.batch import ImageInput, PromptTokens
from sightline.models.families import LLAVA
from sightline.models.forward import Policy
from sightline.models.sampler import SamplingParams, sample

IMAGE_TOKEN, TEXT_TOKENS = 388, 25
SHAPES = {
    "256 image tokens, 4 prompts x 8 answers x 64 tokens": (224, 4, 8, 64),
    "576 image tokens, 2 prompts x 16 answers x 32 tokens": (336, 2, 16, 32),
}


def main() -> None:
    """Both shapes, both samplers in turns."""
    asked = arguments()
    torch.set_num_threads(asked.threads)
    found = {}
    for name, (side, num_prompts, num_answers, num_tokens) in SHAPES.items():
        model = make_model(side)
        prompts = make_prompts(side, num_prompts)
        runs = {
            "sightline": lambda m=model, p=prompts, n=num_answers, t=num_tokens: ours(m, p, n, t),
            "generate": lambda m=model, p=prompts, n=num_answers, t=num_tokens: theirs(m, p, n, t),
        }
        seconds = in_turns(runs, rounds=asked.rounds)
        medians = {key: statistics.median(values) for key, values in seconds.items()}
        found[name] = {"seconds": medians, "ratio": medians["generate"] / medians["sightline"]}
        said = ", ".join(f"{key} {value:.2f} s" for key, value in medians.items())
        print(f"{name}: {said}, ratio {found[name]['ratio']:.2f}", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


def make_model(side: int) -> LlavaForConditionalGeneration:
    """The bench's LLaVA with random weights."""
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(llava_config(side)).eval().requires_grad_(False)
    model.set_attn_implementation("sdpa")
    return model


def make_prompts(side: int, num: int) -> list[PromptTokens]:
    """A picture and some words each."""
    size = (side // 14) ** 2
    words = torch.randint(3, 300, (num, TEXT_TOKENS), generator=torch.Generator().manual_seed(1)).tolist()
    pixels = torch.randn(num, 3, side, side, generator=torch.Generator().manual_seed(2))
    return [
        PromptTokens(
            id=str(i),
            ids=(1, *[IMAGE_TOKEN] * size, *words[i]),
            images=(ImageInput(key=str(i), num_tokens=size, load=lambda picture=pixels[i]: picture),),
        )
        for i in range(num)
    ]


def ours(model: LlavaForConditionalGeneration, prompts: list[PromptTokens], num: int, tokens: int) -> int:
    """Tokens drawn by our sampler; nothing is kept from one call to the next."""
    policy = Policy(model, LLAVA, keep_feature_bytes=0)
    params = SamplingParams(temperature=1.0, max_tokens=tokens)
    found = sample(policy, prompts, num=num, params=params, ends=())
    return sum(len(answer.token_ids) for group in found for answer in group)


@torch.no_grad()
def theirs(model: LlavaForConditionalGeneration, prompts: list[PromptTokens], num: int, tokens: int) -> int:
    """Tokens drawn by transformers, with the log-probabilities that reinforcement learning needs."""
    ids = torch.as_tensor([prompt.ids for prompt in prompts])
    pixels = torch.stack([prompt.images[0].load() for prompt in prompts])
    found = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=pixels,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        num_return_sequences=num,
        min_new_tokens=tokens,
        max_new_tokens=tokens,
        suppress_tokens=[IMAGE_TOKEN],
        eos_token_id=2,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    logits = torch.stack(found.logits, 1)
    drawn = found.sequences[:, ids.shape[1] :]
    return int(logits.log_softmax(-1).gather(-1, drawn[..., None]).numel())


def in_turns(runs: dict[str, Callable[[], int]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each, one after another in every round; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    counts = set()
    for number in range(rounds + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            counts.add(run())
            if number:
                seconds[name].append(time.perf_counter() - began)
    assert len(counts) == 1, f"both must draw as many tokens: {counts}"
    return seconds


def arguments() -> argparse.Namespace:
    """What may be changed from outside."""
    parser = argparse.ArgumentParser(description="Sampling against transformers' generate.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=None, help="file for the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
