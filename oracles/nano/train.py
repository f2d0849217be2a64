"""Trains nano, a small Qwen3-VL, on drawn scenes, and writes checkpoint/model.safetensors.

No CI job runs this script: it takes a CUDA device, and other hardware gives other weights.

The architecture is transformers' own Qwen3VLForConditionalGeneration. Two methods of its vision
tower are replaced while training, by forms that compute the same thing for a batch of equally
large pictures at once instead of picture by picture; each run first prints how far apart the two are.

    python make_tokenizer.py                  # once, before the first training
    python train.py                           # a CUDA device; minutes
    python train.py --device cpu --steps 3 --scenes 8 --workers 0 --out smoke
"""

import argparse
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset
from transformers import Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl import modeling_qwen3_vl

import nano
import scenes

LENGTH = 72  # ids a row, padded; the longest row of the corpus has 69
PROMPT_WEIGHT = 0.1  # of the loss on prompt tokens; the answer's tokens weigh 1


class Batches(Dataset):
    """Batch number n: `scenes` picture rows, then `text` text-only rows, drawn from seeds of their own."""

    def __init__(self, steps, pictures, text):
        self.steps, self.pictures, self.text = steps, pictures, text
        self.tok = nano.tokenizer()

    def __len__(self):
        return self.steps

    def __getitem__(self, n):
        rows = self.pictures + self.text
        ids = torch.full((rows, LENGTH), nano.SPECIAL["<|endoftext|>"])
        weights = torch.zeros(rows, LENGTH)
        images = torch.empty(self.pictures, scenes.SIDE, scenes.SIDE, 3, dtype=torch.uint8)
        for r in range(rows):
            if r < self.pictures:
                s, rng = scenes.scene(n * self.pictures + r)
                images[r] = torch.from_numpy(scenes.draw(s))
                asked, answer = scenes.question(s, rng)
            else:
                asked, answer = scenes.text_only(scenes.SplitMix64(n * self.text + r - self.pictures))
            row, head = nano.encode(self.tok, asked, answer, r < self.pictures)
            ids[r, : len(row)] = torch.tensor(row)
            weights[r, :head] = PROMPT_WEIGHT
            weights[r, head : len(row)] = 1.0
        return images, ids, weights


def batched_vision_attention(self, hidden_states, cu_seqlens, rotary_pos_emb=None, position_embeddings=None, **kwargs):
    """Bidirectional attention inside each picture, all pictures in one call."""
    n = nano.GRID_THW[1] * nano.GRID_THW[2]
    q, k, v = self.qkv(hidden_states).view(-1, 3, self.num_heads, self.head_dim).unbind(1)
    q, k = modeling_qwen3_vl.apply_rotary_pos_emb_vision(q, k, *position_embeddings)
    q, k, v = (x.to(v.dtype).view(-1, n, self.num_heads, self.head_dim).transpose(1, 2) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, scale=self.scaling)
    return self.proj(out.transpose(1, 2).reshape(hidden_states.shape[0], -1))


def repeated(method):
    """The method's result for one picture, repeated for each: equal grids give equal positions."""

    def call(self, grid_thw):
        return method(self, grid_thw[:1]).repeat(grid_thw.shape[0], 1)

    return call


def batch_the_vision_tower():
    modeling_qwen3_vl.Qwen3VLVisionAttention.forward = batched_vision_attention
    tower = modeling_qwen3_vl.Qwen3VLVisionModel
    tower.fast_pos_embed_interpolate = repeated(tower.fast_pos_embed_interpolate)
    tower.rot_pos_emb = repeated(tower.rot_pos_emb)


def save(model, folder):
    """config.json and model.safetensors, bf16, under the names of the published checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.detach().to("cpu", torch.bfloat16).contiguous()
        for name, value in sorted(model.state_dict().items())
        if not name.startswith("lm_head.")  # tied to the embedding table
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.dtype = torch.bfloat16
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)


def check(model, device):
    """Largest difference of logits between transformers' vision tower and the batched one, fp32."""
    images, ids, _ = Batches(1, 4, 2)[0]
    pixels = nano.patches(images).to(device)
    with torch.no_grad():
        own = nano.forward(model, ids.to(device), pixels, 4)
        batch_the_vision_tower()
        batched = nano.forward(model, ids.to(device), pixels, 4)
    return (own - batched).abs().max().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--scenes", type=int, default=128, help="picture rows a batch")
    parser.add_argument("--text", type=int, default=8, help="text-only rows a batch")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights")
    parser.add_argument("--workers", type=int, default=7, help="processes that draw scenes")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=nano.CHECKPOINT)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    model = Qwen3VLForConditionalGeneration(nano.config()).to(device)
    # Small, like the other weights: N(0, 1), an embedding table's default, would drown the patches.
    torch.nn.init.normal_(model.model.visual.pos_embed.weight, std=0.02)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters} parameters; batched vision differs by {check(model, device):.1e}", flush=True)

    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [dict(params=matrices, weight_decay=args.weight_decay), dict(params=vectors, weight_decay=0.0)],
        lr=args.lr, betas=(0.9, 0.98), fused=device.type == "cuda",
    )

    def schedule(step):
        warm = min(1.0, (step + 1) / 200)
        return warm * (0.5 * (1 + math.cos(math.pi * step / args.steps)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    loader = DataLoader(
        Batches(args.steps, args.scenes, args.text), batch_size=None, num_workers=args.workers,
        prefetch_factor=8 if args.workers else None, pin_memory=device.type == "cuda",
    )
    model.train()
    start = time.time()
    for step, (images, ids, weights) in enumerate(loader):
        ids, weights = ids.to(device, non_blocking=True), weights.to(device, non_blocking=True)
        pixels = nano.patches(images.to(device, non_blocking=True))
        with torch.autocast(device.type, torch.bfloat16):
            logits = nano.forward(model, ids, pixels, args.scenes)
        losses = F.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        weights = weights[:, 1:].flatten()
        loss = (losses * weights).sum() / weights.sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        if step % 100 == 99 or step + 1 == args.steps:
            answer = weights == 1.0
            wrong = (logits[:, :-1].argmax(-1).flatten() != ids[:, 1:].flatten())[answer].float().mean().item()
            nats = losses[answer].mean().item()
            each = (time.time() - start) / (step + 1)
            print(f"step {step + 1}: answer loss {nats:.4f} nats, {100 * wrong:.3f} % of tokens wrong, "
                  f"{1000 * each:.1f} ms a step", flush=True)
    save(model, args.out)


if __name__ == "__main__":
    main()
