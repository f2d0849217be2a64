"""Writes small assets with Core AI's own library, for the byte-for-byte test of our reader and writer.

    python make_assets.py FOLDER

Together they use every operation, attribute and type that our graphs use, in more forms than they
do: all element types, all ways to store a constant, states, composites, several functions, debug
locations as an exporter leaves them. Needs coreai-core 1.0.0b3; the private `_compiler` names have no
public counterpart for IR text.
"""

import sys
from pathlib import Path
from typing import Annotated

import coreai.authoring as ca
import ml_dtypes
import numpy as np
from coreai._compiler.ir import Module as IrModule
from coreai.authoring import AIProgram, Module, TensorSpec, Value, graph
from coreai.authoring.constant import constant
from coreai.authoring.debuginfo import CompileUnitScope, DebugInfo, FileInfo, SubprogramScope

ELEMENTS = {
    "f64": (ca.float64, np.float64), "f32": (ca.float32, np.float32), "f16": (ca.float16, np.float16),
    "bf16": (ca.bfloat16, ml_dtypes.bfloat16), "f8e4": (ca.float8_e4m3fn, ml_dtypes.float8_e4m3fn),
    "f8e5": (ca.float8_e5m2, ml_dtypes.float8_e5m2), "i64": (ca.int64, np.int64),
    "i32": (ca.int32, np.int32), "i16": (ca.int16, np.int16), "i8": (ca.int8, np.int8),
    "i4": (ca.int4, np.int8), "i2": (ca.int2, np.int8), "u64": (ca.uint64, np.uint64),
    "u32": (ca.uint32, np.uint32), "u16": (ca.uint16, np.uint16), "u8": (ca.uint8, np.uint8),
    "u4": (ca.uint4, np.uint8), "u2": (ca.uint2, np.uint8), "bool": (ca.bool_, np.bool_),
    "c64": (ca.complex64, np.complex64),
}
F16, F32, I32, U32 = np.float16, np.float32, np.int32, np.uint32


def function(name, inputs, outputs, body, **options):
    """Adds a graph: `inputs` and `outputs` map names to (shape, dtype), `body` computes."""
    arguments = ", ".join(inputs)
    scope = {"body": body}
    exec(f"def {name}({arguments}): return body({arguments})", scope)  # the library reads names off it
    fn = scope[name]
    fn.__annotations__ = {k: Annotated[Value, TensorSpec(*spec)] for k, spec in inputs.items()}
    results = tuple(Annotated[Value, TensorSpec(*spec, name=k)] for k, spec in outputs.items())
    fn.__annotations__["return"] = results[0] if len(results) == 1 else tuple[results]
    return graph(**options)(fn) if options else graph(fn)


def arithmetic():
    def body(x, y):
        for op in (ca.broadcasting_add, ca.broadcasting_sub, ca.broadcasting_mul, ca.broadcasting_divide,
                   ca.broadcasting_floor_divide, ca.broadcasting_maximum, ca.broadcasting_minimum):
            x = op(x, y)
        return ca.broadcasting_where(ca.not_(ca.broadcasting_greater(x, y)), x, y)

    function("main", {"x": ((2, 3), F32), "y": ((3,), F32)}, {"out": ((2, 3), F32)}, body)


def primitives():
    def body(x, y):
        for op in (ca.add, ca.sub, ca.mul, ca.divide, ca.floor_divide, ca.maximum, ca.minimum):
            x = op(x, y)
        return ca.where(ca.greater(x, y), x, y)

    function("main", {"x": ((2, 3), F16), "y": ((2, 3), F16)}, {"out": ((2, 3), F16)}, body)


def elementwise():
    def body(x):
        for op in (ca.cos, ca.sin, ca.exp, ca.rsqrt, ca.silu, ca.gelu):
            x = op(x)
        return ca.cast(ca.cast(x, F32), F16)

    function("main", {"x": ((-1, 3), F16)}, {"out": ((-1, 3), F16)}, body)


def reductions():
    def body(x):
        axes = np.array([1], I32)
        return ca.reduce_mean(x, axes), ca.reduce_sum(x, axes), ca.reduce_product(x, axes), ca.softmax(x, 2)

    outputs = {n: ((2, 1, 4), F32) for n in ("mean", "sum", "product")} | {"soft": ((2, 3, 4), F32)}
    function("main", {"x": ((2, 3, 4), F32)}, outputs, body)


def shapes():
    def body(x, row, ids):
        rows = ca.slice_(ca.get_shape(x), [0], [1], [1])
        ramp = ca.range_(0, ca.shrink_dims(ca.cast(rows, I32), [0]), 1)
        y = ca.transpose(ca.reshape(x, [-1, 4, 3]), np.array([0, 2, 1], U32))
        y = ca.concat(1, [y, ca.slice_(y, [0, 0, 0], [2**31 - 1, 1, 4], [1, 1, 1])])
        ends, steps = [2, 1, 4], [1, 1, 1]
        y = ca.slice_update(y, [0, 0, 0], ends, steps, ca.broadcast_to(ca.expand_dims(row, [0]), ends))
        return y, ca.expand_dims(ramp, [0]), ca.shrink_dims(ids, [0]), ca.broadcast_in_dims(row, np.array([2], U32), [0])

    inputs = {"x": ((-1, 3, 4), F16), "row": ((1, 4), F16), "ids": ((1, -1), I32)}
    outputs = {"y": ((-1, 4, 4), F16), "ramp": ((1, -1), I32), "flat": ((-1,), I32), "rows": ((2, 4), F16)}
    function("main", inputs, outputs, body)


def gathers():
    def body(table, cells, rows):
        return ca.gather_along_axis(table, cells, 0), ca.gather_nd(table, rows)

    inputs = {"table": ((8, 4), F16), "cells": ((2, 4), I32), "rows": ((2, 1), I32)}
    function("main", inputs, {"a": ((2, 4), F16), "b": ((2, 4), F16)}, body)


def quantized():
    def body(x):
        data = constant((np.arange(2048) % 127).reshape(32, 64).astype(np.int8))
        scale = constant(np.full((32, 2), 0.5, F16))
        zero, offset = constant(np.zeros((32, 2), np.int8)), constant(np.zeros((32, 2), F16))
        weight = ca.blockwise_shift_scale(data, scale, zero, offset)
        return ca.broadcasting_batch_matmul(x, ca.transpose(weight, np.array([1, 0], U32)))

    function("main", {"x": ((1, 64), F16)}, {"out": ((1, 32), F16)}, body)


def constants():
    """Each element type as a scalar, a splat, a small and a large tensor.

    No f8 scalars: the library crashes on them.
    """
    for name, (kind, dtype) in ELEMENTS.items():
        ramp = lambda *shape: (np.arange(int(np.prod(shape))) % 2).reshape(shape).astype(dtype)
        values = {"splat": np.ones((2, 3), dtype), "small": ramp(2, 3), "large": ramp(16, 32)}
        if not name.startswith("f8"):
            values["scalar"] = np.ones((), dtype)
        for form, value in values.items():
            function(f"{name}_{form}", {}, {"y": (value.shape, kind)}, lambda v=value, k=kind: constant(v, dtype=k))


def elements():
    """Each element type as input and output."""
    for name, (kind, _) in ELEMENTS.items():
        function(f"pass_{name}", {"x": ((2, -1), kind)}, {"y": ((2, -1), kind)}, lambda x: x)


def functions():
    """Two public functions that call one private graph and share a large constant."""
    large = (np.arange(300) % 7).astype(F32)
    sub = function("sub", {"a": ((300,), F32)}, {"b": ((300,), F32)}, lambda a: ca.add(a, a), private=True, no_inline=True)

    def body(x):
        called = sub(ca.mul(x, constant(large)))
        return called[0] if isinstance(called, (list, tuple)) else called

    for name in ("main", "prefill"):
        function(name, {"x": ((300,), F32)}, {"y": ((300,), F32)}, body)


def locations():
    """Debug locations with files, a compile unit, a subprogram, an inlined call and metadata."""
    unit = CompileUnitScope(FileInfo("model.py", "src"), producer="exporter")
    scope = SubprogramScope("forward", unit.file, unit, mlir_type_str="() -> ()")
    here = DebugInfo.file("src/model.py", 3, 4).with_scope(scope).with_op_id("torch", 7).with_metadata("layer")

    def body(x):
        with here.activate():
            x = ca.broadcasting_add(x, 1.0)
        with DebugInfo.file("src/model.py", 5, 6).with_scope(unit).with_inlined_at(here).activate():
            return ca.silu(x)

    function("main", {"x": ((2, 3), F32)}, {"y": ((2, 3), F32)}, body)


STATE = """module {
  coreai.graph @main(%p: tensor<1x?xsi32> {coreai.name = "p"}, %u: tensor<1x2x?x4xf16> {coreai.name = "u"},
      %h: !coreai.handle<tensor<1x2x?x4xf16>> {MutableBuffers.buffer_mutation = "cache", coreai.name = "cache"})
      -> (!coreai.token {coreai.name = "cache"}, tensor<1x2x?x4xf16> {coreai.name = "y"}) {
    %t0 = coreai.create_token : !coreai.token
    %old, %t1 = coreai.read_handle %h, %t0 : (<tensor<1x2x?x4xf16>>, !coreai.token) -> (tensor<1x2x?x4xf16>, !coreai.token)
    %start = coreai.constant dense<[0, 0, 0, 0]> : tensor<4xsi32>
    %end = coreai.constant dense<[1, 2, 1, 4]> : tensor<4xsi32>
    %stride = coreai.constant dense<1> : tensor<4xsi32>
    %new = coreai.slice_update %old with %u at (%start, %end, %stride) : (tensor<1x2x?x4xf16>, tensor<1x2x?x4xf16>, tensor<4xsi32>, tensor<4xsi32>, tensor<4xsi32>) to tensor<1x2x?x4xf16>
    %t2 = coreai.write_handle %h, %new, %t1 : (<tensor<1x2x?x4xf16>>, tensor<1x2x?x4xf16>, !coreai.token) -> !coreai.token
    coreai.output %t2, %new : !coreai.token, tensor<1x2x?x4xf16>
  }
}"""

COMPOSITE = """module {
  coreai.graph private noinline @norm(%x: tensor<2xf32> {coreai.name = "input"}) -> (tensor<2xf32> {coreai.name = "output"})
      attributes {composite_decl = #coreai.composite_declaration<"norm" = {input_names = ["input"], op_attrs = {
        axes = [1 : si64, -2 : si64], nested = {inner = "text", eps = 2.5 : f32}, on = true, off = false, wide = 1.5 : f64,
        half = 1.5 : f16, byte = -3 : si8, word = 7 : si32, big = 18446744073709551615 : ui64, type = f32, none = unit,
        empty_array = [], empty_dictionary = {}}, output_names = ["output"]}>} {
    %0 = coreai.add %x, %x : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
    coreai.output %0 : tensor<2xf32>
  }
  coreai.graph @main(%x: tensor<2xf32> {coreai.name = "x"}) -> (tensor<2xf32> {coreai.name = "y"}) {
    %0 = coreai.invoke @norm(%x) : (tensor<2xf32>) -> tensor<2xf32>
    coreai.output %0 : tensor<2xf32>
  }
}"""

GELU = """module {
  coreai.graph @main(%x: tensor<2xf16> {coreai.name = "x"}) -> (tensor<2xf16> {coreai.name = "y"}) {
    %0 = "coreai.gelu"(%x) <{approximate = #coreai.approximate<none>}> : (tensor<2xf16>) -> tensor<2xf16>
    %1 = "coreai.gelu"(%0) <{approximate = #coreai.approximate<tanh>}> : (tensor<2xf16>) -> tensor<2xf16>
    %2 = "coreai.gelu"(%1) <{approximate = #coreai.approximate<sigmoid>}> : (tensor<2xf16>) -> tensor<2xf16>
    coreai.output %2 : tensor<2xf16>
  }
}"""


def main(folder):
    for build in (arithmetic, primitives, elementwise, reductions, shapes, gathers, quantized, constants,
                  elements, functions, locations):
        module = Module.create()
        with module:
            build()
        AIProgram(module).save_asset(folder / f"{build.__name__}.aimodel")
    for name, text in (("state", STATE), ("composite", COMPOSITE), ("gelu", GELU)):
        module = IrModule.parse(text, ca.Context()._mlir_context)
        AIProgram._from_mlir_module(module).save_asset(folder / f"{name}.aimodel")


main(Path(sys.argv[1]))
