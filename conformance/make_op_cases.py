"""Records what Core AI's runtime computes for single operations, as fixtures of the runtime's tests.

No CI job runs this script: run it by hand in the environment with coreai-core 1.0.0b3 when an operation is
new, and put what it writes into crates/runtime/tests/fixtures.

    python make_op_cases.py FOLDER

Writes FOLDER/ops.aimodel, one function an operation and form, and FOLDER/ops.safetensors with
`FUNCTION/RUN/x0...` and `FUNCTION/RUN/y0...` for each run of a function; functions with open extents
are run at several. Booleans are stored as u8. Needs coreai-core 1.0.0b3.
"""

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Annotated

import coreai.authoring as ca
import numpy as np
import tensors
from coreai.authoring import AIModelAsset, AIProgram, Module, TensorSpec, Value, graph
from coreai.authoring.constant import constant
from coreai.runtime import NDArray

F16, F32, I32, U32, BOOL = np.float16, np.float32, np.int32, np.uint32, np.bool_
END = 2**31 - 1
CASES = {}
RNG = np.random.default_rng(3)


def case(name, inputs, outputs, body, runs=None, low=-9, high=9):
    """A function; `inputs` and `outputs` are (shape, dtype), `runs` the inputs' shapes of each run, or their values."""
    names = [f"x{i}" for i in range(len(inputs))]
    scope = {"body": body}
    exec(f"def {name}({', '.join(names)}): return body({', '.join(names)})", scope)  # the library reads names off it
    fn = scope[name]
    fn.__annotations__ = {n: Annotated[Value, TensorSpec(*spec)] for n, spec in zip(names, inputs)}
    results = tuple(Annotated[Value, TensorSpec(*spec, name=f"y{i}")] for i, spec in enumerate(outputs))
    fn.__annotations__["return"] = results[0] if len(results) == 1 else tuple[results]
    try:
        graph(fn)
    except Exception as error:
        raise SystemExit(f"{name}: {error}") from error
    values = []
    for shapes in runs or [[shape for shape, _ in inputs]]:
        row = []
        for shape, (_, dtype) in zip(shapes, inputs):
            if isinstance(shape, np.ndarray):
                row.append(shape.astype(dtype))
            elif dtype in (I32, U32):
                drawn = RNG.integers(low, high, shape)
                row.append(np.asarray(np.where(drawn == 0, 1, drawn), dtype))
            elif dtype is BOOL:
                row.append(RNG.integers(0, 2, shape).astype(bool))
            else:
                row.append(np.asarray(RNG.standard_normal(shape) * 2, dtype))
        values.append(row)
    CASES[name] = values


def elementwise():
    kinds = {"f16": F16, "f32": F32, "i32": I32}
    for op in ("add", "sub", "mul", "divide", "floor_divide", "maximum", "minimum", "greater"):
        fn = getattr(ca, f"broadcasting_{op}")
        for kind, t in kinds.items():
            out = BOOL if op == "greater" else t
            case(f"{op}_{kind}", [((2, 3), t), ((3,), t)], [((2, 3), out)], fn)
            case(f"{op}_{kind}_open", [((-1, 1), t), ((2, 1, -1), t)], [((2, -1, -1), out)], fn,
                 [[(4, 1), (2, 1, 5)], [(1, 1), (2, 1, 3)], [(7, 1), (2, 1, 1)]])
        case(f"{op}_scalar", [((), F16), ((2, -1), F16)], [((2, -1), BOOL if op == "greater" else F16)], fn,
             [[(), (2, 3)], [(), (2, 1)]])
    for kind, t in (("f16", F16), ("i32", I32)):
        case(f"where_{kind}", [((2, 1, -1), BOOL), ((3, 1), t), ((), t)], [((2, 3, -1), t)], ca.broadcasting_where,
             [[(2, 1, 4), (3, 1), ()], [(2, 1, 1), (3, 1), ()]])
    case("where_same", [((3, 4), BOOL), ((3, 4), F32), ((3, 4), F32)], [((3, 4), F32)], ca.broadcasting_where)
    case("not_open", [((2, -1), BOOL)], [((2, -1), BOOL)], ca.not_, [[(2, 5)]])
    for kind, t in (("f16", F16), ("f32", F32)):
        for op in ("exp", "sin", "cos", "silu"):
            case(f"{op}_{kind}", [((4, -1), t)], [((4, -1), t)], getattr(ca, op), [[(4, 64)], [(4, 1)]])
        case(f"rsqrt_{kind}", [((4, 8), t)], [((4, 8), t)], ca.rsqrt, [[np.abs(RNG.standard_normal((4, 8))) + 0.1]])
        case(f"gelu_erf_{kind}", [((4, 64), t)], [((4, 64), t)], lambda x: ca.gelu(x))
        case(f"gelu_tanh_{kind}", [((4, 64), t)], [((4, 64), t)], lambda x: ca.gelu(x, approximate="tanh"))
    casts = {"f16": F16, "f32": F32, "i32": I32, "u32": U32, "bool": BOOL}
    for a, ta in casts.items():
        for b, tb in casts.items():
            if a != b:
                low = 0 if "u32" in (a, b) else -9
                given = np.abs(RNG.standard_normal((3, 4)) * 4) if b == "u32" else (3, 4)
                case(f"cast_{a}_{b}", [((3, 4), ta)], [((3, 4), tb)], lambda x, t=tb: ca.cast(x, t), [[given]], low=low)


def axes():
    for kind, t in (("f16", F16), ("f32", F32)):
        for op in ("reduce_mean", "reduce_sum", "reduce_product"):
            fn = getattr(ca, op)
            case(f"{op}_{kind}", [((2, -1, 40), t)], [((2, -1, 1), t)], lambda x, f=fn: f(x, np.array([-1], I32)),
                 [[(2, 3, 40)], [(2, 1, 40)]])
            case(f"{op}_{kind}_two", [((2, 3, 5), t)], [((1, 3, 1), t)], lambda x, f=fn: f(x, np.array([0, 2], I32)))
        case(f"softmax_{kind}", [((2, -1, 40), t)], [((2, -1, 40), t)], lambda x: ca.softmax(x, 2), [[(2, 3, 40)]])
        case(f"softmax_{kind}_inner", [((2, 7, 3), t)], [((2, 7, 3), t)], lambda x: ca.softmax(x, 1))
    for op in ("reduce_sum", "reduce_product"):
        case(f"{op}_i32", [((2, 3), I32)], [((2, 1), I32)], lambda x, f=getattr(ca, op): f(x, np.array([1], I32)))


def products():
    for kind, t in (("f16", F16), ("f32", F32)):
        fn = ca.broadcasting_batch_matmul
        case(f"matmul_{kind}", [((3, 64), t), ((64, 5), t)], [((3, 5), t)], fn)
        case(f"matmul_{kind}_long", [((2, 2000), t), ((2000, 3), t)], [((2, 3), t)], fn)
        case(f"matmul_{kind}_rows", [((1, -1, 8), t), ((8, 4), t)], [((1, -1, 4), t)], fn, [[(1, 5, 8), (8, 4)], [(1, 1, 8), (8, 4)]])
        case(f"matmul_{kind}_batch", [((2, 1, 3, 8), t), ((4, 8, -1), t)], [((2, 4, 3, -1), t)], fn,
             [[(2, 1, 3, 8), (4, 8, 6)], [(2, 1, 3, 8), (4, 8, 1)]])
        case(f"matmul_{kind}_matrix_first", [((3, 8), t), ((2, 8, 4), t)], [((2, 3, 4), t)], fn)

    def weight(zero, offset):
        rng = np.random.default_rng(5)
        data = rng.integers(-127, 128, (24, 64)).astype(np.int8)
        scale = (rng.random((24, 2)) * 0.01 + 0.001).astype(F16)
        zeros = np.full((24, 2), zero, np.int8)
        offsets = np.full((24, 2), offset, F16)
        return ca.blockwise_shift_scale(*(constant(v) for v in (data, scale, zeros, offsets)))

    turn = lambda w: ca.transpose(w, np.array([1, 0], U32))
    case("blockwise", [((1,), F16)], [((24, 64), F16)], lambda x: ca.broadcasting_add(weight(0, 0.0), x), [[np.zeros(1)]])
    case("blockwise_shifted", [((1,), F16)], [((24, 64), F16)], lambda x: ca.broadcasting_add(weight(3, 0.25), x), [[np.zeros(1)]])
    case("blockwise_product", [((1, -1, 64), F16)], [((1, -1, 24), F16)],
         lambda x: ca.broadcasting_batch_matmul(x, turn(weight(0, 0.0))), [[(1, 1, 64)], [(1, 5, 64)]])
    table = (np.random.default_rng(6).standard_normal((24, 64)) * 0.1).astype(F16)
    case("constant_product", [((1, -1, 64), F16)], [((1, -1, 24), F16)],
         lambda x: ca.broadcasting_batch_matmul(x, turn(constant(table))), [[(1, 1, 64)], [(1, 3, 64)]])


def windows():
    for kind, t in (("f16", F16), ("f32", F32), ("i32", I32)):
        for mode in ("constant", "reflect", "replicate", "symmetric", "circular"):
            case(f"pad_{kind}_{mode}", [((3, 4), t)], [((6, 7), t)],
                 lambda x, t=t, m=mode: ca.pad(x, np.array([1, 2, 2, 1], U32), t(7), m))
        case(f"pad_{kind}_open", [((1, -1, 3), t)], [((1, -1, 8), t)],
             lambda x, t=t: ca.pad(x, np.array([0, 0, 0, 0, 0, 5], U32), t(0)), [[(1, 4, 3)], [(1, 1, 3)]])
        case(f"tile_{kind}", [((2, 3, 1), t)], [((4, 3, 3), t)], lambda x: ca.tile(x, np.array([2, 1, 3], U32)))
        case(f"tile_{kind}_inner", [((2, 3, 2), t)], [((2, 3, 4), t)], lambda x: ca.tile(x, np.array([2], U32)))
    steps = lambda *values: np.array(values, U32)
    for kind, t in (("f16", F16), ("f32", F32)):
        case(f"conv3d_{kind}_patches", [((5, 3, 2, 4, 4), t), ((6, 3, 2, 4, 4), t)], [((5, 6, 1, 1, 1), t)],
             lambda x, w: ca.conv3d(x, w, steps(2, 4, 4), steps(1, 1, 1), U32(1)))
        case(f"conv3d_{kind}_groups", [((2, 4, 5, 6, 7), t), ((6, 2, 2, 1, 3), t)], [((2, 6, 3, 3, 5), t)],
             lambda x, w: ca.conv3d(x, w, steps(1, 2, 1), steps(2, 1, 1), U32(2)))
        case(f"conv2d_{kind}", [((2, 3, 6, 7), t), ((4, 3, 3, 2), t)], [((2, 4, 2, 3), t)],
             lambda x, w: ca.conv2d(x, w, steps(2, 2), steps(1, 1), U32(1)))
        case(f"conv2d_{kind}_groups", [((1, 4, 8, 8), t), ((4, 1, 3, 3), t)], [((1, 4, 4, 6), t)],
             lambda x, w: ca.conv2d(x, w, steps(1, 1), steps(2, 1), U32(4)))


def shapes():
    for kind, t in (("f16", F16), ("i32", I32)):
        case(f"reshape_{kind}", [((2, -1, 3), t)], [((-1, 6), t)], lambda x: ca.reshape(x, [-1, 6]), [[(2, 4, 3)], [(2, 1, 3)]])
        case(f"transpose_{kind}", [((2, -1, 3), t)], [((3, 2, -1), t)], lambda x: ca.transpose(x, np.array([2, 0, 1], U32)), [[(2, 4, 3)]])
        case(f"expand_{kind}", [((2, -1), t)], [((1, 2, -1, 1), t)], lambda x: ca.expand_dims(x, np.array([0, -1], I32)), [[(2, 4)]])
        case(f"shrink_{kind}", [((1, -1, 1), t)], [((-1,), t)], lambda x: ca.shrink_dims(x, np.array([0, -1], I32)), [[(1, 4, 1)]])
        case(f"slice_{kind}", [((5, 6), t)], [((3, 2), t)], lambda x: ca.slice_(x, [1, 2], [4, 4], [1, 1]))
        case(f"slice_{kind}_step", [((7, 6), t)], [((3, 2), t)], lambda x: ca.slice_(x, [1, 0], [7, 6], [2, 3]))
        case(f"slice_{kind}_open", [((-1, 6), t)], [((-1, 6), t)], lambda x: ca.slice_(x, [1, 0], [END, END], [1, 1]), [[(4, 6)], [(1, 6)]])
        case(f"slice_{kind}_negative", [((5, -1), t)], [((2, -1), t)], lambda x: ca.slice_(x, [-2, 0], [END, -1], [1, 1]), [[(5, 6)], [(5, 2)]])
        case(f"update_{kind}", [((4, 5), t), ((2, 3), t)], [((4, 5), t)], lambda x, u: ca.slice_update(x, [1, 2], [3, 5], [1, 1], u))
        case(f"update_{kind}_inner", [((2, 1, 3, 4, 2), t), ((2, 1, 3, 2, 2), t)], [((2, 1, 3, 4, 2), t)],
             lambda x, u: ca.slice_update(x, [0, 0, 0, 1, 0], [2, 1, 3, 3, 2], [1, 1, 1, 1, 1], u))
        case(f"update_{kind}_cell", [((3, 1, 2, 4, 2), t), ((1, 1, 2, 2, 2), t)], [((3, 1, 2, 4, 2), t)],
             lambda x, u: ca.slice_update(x, [1, 0, 0, 2, 0], [2, END, END, 4, END], [1, 1, 1, 1, 1], u))
        case(f"update_{kind}_block", [((2, 3, 4), t), ((2, 2, 2), t)], [((2, 3, 4), t)],
             lambda x, u: ca.slice_update(x, [0, 1, 1], [2, 3, 3], [1, 1, 1], u))
        case(f"concat_{kind}", [((2, -1), t), ((2, 3), t)], [((2, -1), t)], lambda x, y: ca.concat(1, [x, y]), [[(2, 4), (2, 3)], [(2, 0), (2, 3)]])
        case(f"concat_{kind}_first", [((2, 3), t), ((1, 3), t), ((4, 3), t)], [((7, 3), t)], lambda *v: ca.concat(-2, list(v)))
        case(f"broadcast_to_{kind}", [((3, 1), t)], [((2, 3, 4), t)], lambda x: ca.broadcast_to(x, [2, 3, 4]))
        case(f"broadcast_in_dims_{kind}", [((1, 3, 1), t)], [((2, 3, 4), t)], lambda x: ca.broadcast_in_dims(x, np.array([2, 4], U32), np.array([0, 2], I32)))
        table, pairs = ((6, 5), t), ((2, 3, 2), I32)
        case(f"gather_nd_{kind}", [table, ((2, 3, 1), I32)], [((2, 3, 5), t)], ca.gather_nd, low=0, high=6)
        case(f"gather_nd_{kind}_deep", [table, pairs], [((2, 3), t)], ca.gather_nd, low=0, high=5)
        case(f"gather_along_{kind}", [((4, 5), t), ((3, 5), I32)], [((3, 5), t)], lambda x, i: ca.gather_along_axis(x, i, 0), low=0, high=4)
        case(f"gather_along_{kind}_other", [((4, 5), t), ((4, 7), I32)], [((4, 7), t)], lambda x, i: ca.gather_along_axis(x, i, 1), low=0, high=5)

        def whole(x, i):
            return ca.gather_along_axis(x, ca.broadcast_in_dims(i, np.array([1, 3, 4], U32), np.array([0, 2, 3], I32)), 1)

        case(f"gather_along_{kind}_whole", [((1, 2, 3, 4), t), ((1, 6, 1, 1), I32)], [((1, 6, 3, 4), t)], whole, low=0, high=2)
    case("get_shape", [((2, -1, 3), F16)], [((3,), U32)], ca.get_shape, [[(2, 4, 3)], [(2, 0, 3)]])
    case("range", [((), I32), ((), I32), ((), I32)], [((-1,), I32)], ca.range_,
         [[np.array(a), np.array(b), np.array(c)] for a, b, c in ((0, 5, 1), (3, 3, 1), (2, 9, 3), (-4, 2, 2))])
    case("floors", [((1, -1), I32), ((), I32)], [((1, -1), I32)], ca.broadcasting_floor_divide,
         [[np.array([[-7, -1, 0, 1, 7]]), np.array(4)], [np.array([[-7, -1, 0, 1, 7]]), np.array(-4)]])


async def main(folder):
    module = Module.create()
    with module:
        for build in (elementwise, axes, products, shapes, windows):
            build()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ops.aimodel"
    shutil.rmtree(path, ignore_errors=True)
    AIProgram(module).save_asset(path)
    recorded = {}
    plain = lambda a: np.array(a, np.uint8 if a.dtype == bool else I32 if a.dtype == U32 else a.dtype, order="C")
    async with AIModelAsset.load(path).executable() as model:
        for name, runs in CASES.items():
            function = model.load_function(name)
            for run, values in enumerate(runs):
                try:
                    out = await function({f"x{i}": NDArray(v) for i, v in enumerate(values)})
                except Exception as error:
                    print(f"{name}/{run}: left out, Core AI refuses: {str(error)[:200]}")
                    continue
                recorded |= {f"{name}/{run}/x{i}": plain(v) for i, v in enumerate(values)}
                recorded |= {f"{name}/{run}/y{i}": plain(out[f"y{i}"].numpy().copy()) for i in range(len(function.desc.output_names))}
    tensors.save(folder / "ops.safetensors", recorded)


asyncio.run(main(Path(sys.argv[1])))
