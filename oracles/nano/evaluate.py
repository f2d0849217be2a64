"""Measures nano: held-out captions, and the margins on the gate prompts.

No CI job runs this script: run it by hand after train.py. nano/README.md has what it printed.

    python evaluate.py [--checkpoint DIR] [--scenes 512] [--device cpu] [--unseen 100]

The weights are the bf16 ones that ship, computed in fp32 by transformers, on the CPU unless told
otherwise. A caption counts when greedy decoding gives it to the letter, its end token included:
that is when, at each position of the right answer, the right token has the largest logit. Pictures
go in as f32 patches and, a second time, rounded to f16. Exit code 1 when a bar is missed.
"""

import argparse
from pathlib import Path

import torch

import nano
import scenes

EXACT_BAR = 0.99  # of held-out captions
MARGIN_BAR = 0.5  # min top-2 margin, in logits, on the gate prompts
STEPS = 24  # greedy tokens a gate prompt, or fewer up to the end token


def answers(model, tok, seeds, device, half, ask):
    """How many answers are exact, and the min margin of a right token over the next best."""
    exact, lowest = 0, float("inf")
    for at in range(0, len(seeds), 64):
        rows, heads, pictures = [], [], []
        for seed in seeds[at : at + 64]:
            s, rng = scenes.scene(seed)
            asked, answer = ask(s, rng)
            row, head = nano.encode(tok, asked, answer, True)
            rows.append(row)
            heads.append(head)
            pictures.append(torch.from_numpy(scenes.draw(s)))
        length = max(map(len, rows))
        ids = torch.full((len(rows), length), nano.SPECIAL["<|endoftext|>"])
        for r, row in enumerate(rows):
            ids[r, : len(row)] = torch.tensor(row)
        pixels = nano.patches(torch.stack(pictures))
        if half:
            pixels = pixels.half().float()
        logits = nano.forward(model, ids.to(device), pixels.to(device), len(rows)).float().cpu()
        for r, row in enumerate(rows):
            # The answer ends at <|im_end|>; the line break after it is the template's.
            predicted, expected = logits[r, heads[r] - 1 : len(row) - 2], torch.tensor(row[heads[r] : -1])
            right = predicted.gather(1, expected[:, None])[:, 0]
            others = predicted.scatter(1, expected[:, None], -torch.inf).max(-1).values
            exact += bool((right > others).all())
            lowest = min(lowest, (right - others).min().item())
    return exact, lowest


def greedy(model, tok, text, picture, device, half=False):
    """The answer's text, its end token removed, and the min margin over at most STEPS tokens."""
    ids, extra = tok.encode(nano.prompt(text, picture is not None)).ids, {}
    if picture is not None:
        pixels = nano.patches(nano.read_picture(picture)).to(device)
        extra = dict(pixel_values=pixels.half().float() if half else pixels,
                     image_grid_thw=torch.tensor([nano.GRID_THW], device=device))
    made, lowest = [], float("inf")
    while True:
        # Positions are left to transformers here, and nothing is cached: the plainest way to decode.
        row = torch.tensor([ids + made], device=device)
        mask = torch.ones_like(row)
        last = model(input_ids=row, attention_mask=mask, use_cache=False, **extra).logits[0, -1].float()
        top = last.topk(2)
        if len(made) < STEPS:
            lowest = min(lowest, (top.values[0] - top.values[1]).item())
        made.append(top.indices[0].item())
        if made[-1] == nano.SPECIAL["<|im_end|>"] or len(made) == 64:
            return tok.decode(made), lowest


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=nano.CHECKPOINT)
    parser.add_argument("--scenes", type=int, default=512)
    parser.add_argument("--unseen", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    model, tok, ok = nano.load(args.checkpoint).to(args.device), nano.tokenizer(), True

    asks = [(f"captions, {q!r}", lambda s, rng, q=q: (q, scenes.caption(s))) for q in scenes.CAPTION_QUESTIONS[:1]]
    asks.append(("every kind of question", scenes.question))
    for name, ask in asks:
        for half in (False, True):
            seeds = range(scenes.EVALUATION_SEEDS, scenes.EVALUATION_SEEDS + args.scenes)
            exact, lowest = answers(model, tok, seeds, args.device, half, ask)
            ok &= exact >= EXACT_BAR * args.scenes
            print(f"held out, {name}, {'f16' if half else 'f32'} patches: {exact} of {args.scenes} exact, "
                  f"min margin {lowest:.3f}")
    seeds = range(scenes.UNSEEN_SEEDS, scenes.UNSEEN_SEEDS + args.unseen)
    exact, lowest = answers(model, tok, seeds, args.device, False, asks[0][1])
    ok &= exact >= EXACT_BAR * args.unseen
    print(f"unseen, captions: {exact} of {args.unseen} exact, min margin {lowest:.3f}")

    smallest = float("inf")
    for name, text, expected, picture in nano.gate_prompts():
        for half in (False, True) if picture else (False,):
            got, lowest = greedy(model, tok, text, picture, args.device, half)
            smallest = min(smallest, lowest)
            ok &= got == expected
            print(f"gate prompt {name}{' (f16 patches)' if half else ''}: margin {lowest:.3f}, "
                  f"{'right' if got == expected else f'WRONG: {got!r}'}")
    ok &= smallest >= MARGIN_BAR
    print(f"smallest margin on the gate prompts: {smallest:.3f} (bar {MARGIN_BAR})")
    print("all bars met" if ok else "a bar is missed")
    raise SystemExit(0 if ok else 1)


if __name__ == "__main__":
    main()
