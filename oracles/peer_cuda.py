"""How fast transformers is on the same GPU, in fp16.

No CI job runs this script: it takes a CUDA GPU. docs/measured.md has what it printed.

    python oracles/peer_cuda.py CHECKPOINT [--prompt 211] [--new 64] [--grid 14]

Prints tokens per second of decoding, eager and compiled with a static cache,
and the time of the vision tower. The medians of five runs, each after runs
that are not counted. Needs torch, transformers and a CUDA GPU.
"""

import argparse
import statistics
import time

import torch
import transformers
from transformers import Qwen3VLForConditionalGeneration

RUNS = 5


def seconds(work):
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def decode(model, prompt, new, **options):
    """Seconds for each new token, without what reading the prompt takes."""
    vocabulary = model.config.text_config.vocab_size
    ids = torch.tensor([[5 + i * 37 % (vocabulary - 5) for i in range(prompt)]]).cuda()

    def generate(count):
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            min_new_tokens=count,
            max_new_tokens=count,
            pad_token_id=0,
            **options,
        )
        assert made.shape[1] == prompt + count

    for _ in range(2):
        generate(new + 1)
        generate(1)
    found = []
    for _ in range(RUNS):
        found.append((seconds(lambda: generate(new + 1)) - seconds(lambda: generate(1))) / new)
    return statistics.median(found)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("--prompt", type=int, default=211)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--grid", type=int, default=14)
    args = parser.parse_args()
    name = torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}, transformers {transformers.__version__}", flush=True)
    model = Qwen3VLForConditionalGeneration.from_pretrained(args.checkpoint, dtype=torch.float16)
    model = model.cuda().eval()
    with torch.inference_mode():
        side = 2 * args.grid
        vision = model.config.vision_config
        width = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        patches = torch.rand(side * side, width, device="cuda", dtype=torch.float16) * 2 - 1
        grid = torch.tensor([[1, side, side]], device="cuda")
        tower = getattr(model, "visual", None) or model.model.visual
        for _ in range(3):
            tower(patches, grid_thw=grid)
        found = [seconds(lambda: tower(patches, grid_thw=grid)) for _ in range(RUNS)]
        print(f"vision            {statistics.median(found) * 1e3:8.3f} ms", flush=True)
        step = decode(model, args.prompt, args.new)
        print(f"decode, eager     {step * 1e3:8.3f} ms a token, {1 / step:.1f} tokens/s", flush=True)
        step = decode(model, args.prompt, args.new, cache_implementation="static")
        print(f"decode, compiled  {step * 1e3:8.3f} ms a token, {1 / step:.1f} tokens/s", flush=True)


if __name__ == "__main__":
    main()
