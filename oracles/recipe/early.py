"""Makes `early.aimodel`: an asset as coreai-torch 0.4.0 left them, with the debug locations that OS 27
beta 2 and later refuse.

    python early.py FOLDER

in an environment with coreai-torch 0.4.0 and coreai-core 1.0.0b1. `cargo xtask test --only repair` has no
such environment, which takes 5 GB; it has the asset. The bytes are others in each run: names of private
graphs and resources are drawn, and locations say where torch is installed.
"""

import sys
from pathlib import Path

import coreai.runtime
import coreai_torch
import torch
from coreai_torch.composite_ops import RMSNorm, RMSNormImpl
from torch import nn
from torch.nn import functional

WIDTH = 32


class Feed(nn.Module):
    """Two products and what stands between them."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        return self.down(functional.silu(self.up(x)))


class Block(nn.Module):
    """A norm that stays a call, and a module within a module within a module."""

    def __init__(self):
        super().__init__()
        self.norm, self.feed = RMSNorm(WIDTH, 1e-6), Feed()

    def forward(self, x):
        return x + self.feed(self.norm(x))


class Early(nn.Module):
    """A table, two blocks, and a choice of the next id."""

    def __init__(self):
        super().__init__()
        self.table, self.blocks = nn.Embedding(64, WIDTH), nn.ModuleList(Block() for _ in range(2))
        nn.init.normal_(self.table.weight, std=0.3)  # no id is far ahead of the others

    def forward(self, ids):
        x = self.table(ids)
        for block in self.blocks:
            x = block(x)
        return functional.softmax(x @ self.table.weight.T, -1)


def main(folder):
    torch.manual_seed(4)
    model = Early().eval().half()

    def export(module):
        ids = torch.zeros(1, 6, dtype=torch.int32)
        with torch.no_grad():
            program = torch.export.export(module, (ids,), dynamic_shapes=({1: torch.export.Dim("n", max=64)},))
        return program.run_decompositions(coreai_torch.get_decomp_table())

    norm = coreai_torch.ExternalizeSpec(
        target_class=RMSNormImpl, composite_op_name="rms_norm", composite_attrs=["axes", "eps"]
    )
    converter = coreai_torch.TorchConverter()
    converter.add_pytorch_module(
        model, export_fn=export, externalize_modules=[norm], input_names=("ids",), output_names=("next",)
    )
    program = converter.to_coreai()
    program.optimize()
    program.save_asset(folder / "early.aimodel", coreai.runtime.AIModelAssetMetadata())


main(Path(sys.argv[1]))
