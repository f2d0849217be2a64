module {
  coreai.graph private noinline @norm(%arg0: tensor<2x4xf16> {coreai.name = "input"}, %arg1: tensor<4xf16> {coreai.name = "scale"}) -> (tensor<2x4xf16> {coreai.name = "output"}) attributes {composite_decl = #coreai.composite_declaration<"rms_norm" = {input_names = ["input", "scale"], op_attrs = {axes = -1 : si64, eps = 1e-6 : f32}, output_names = ["output"]}>} {
    %0 = coreai.constant dense<1> : tensor<1xsi32>
    %1 = coreai.reduce_mean %arg0, %0 : (tensor<2x4xf16>, tensor<1xsi32>) -> tensor<2x1xf16>
    %2 = coreai.decomposable.broadcasting_sub %arg0, %1 : (tensor<2x4xf16>, tensor<2x1xf16>) -> tensor<2x4xf16>
    %3 = coreai.decomposable.broadcasting_mul %2, %arg1 : (tensor<2x4xf16>, tensor<4xf16>) -> tensor<2x4xf16>
    coreai.output %3 : tensor<2x4xf16>
  }
  coreai.graph @main(%arg0: tensor<2x4xf16> {coreai.name = "x"}, %arg1: !coreai.handle<tensor<2x?xf16>> {MutableBuffers.buffer_mutation = "cache", coreai.name = "cache"}) -> (!coreai.token {coreai.name = "cache"}, tensor<2x4xf16> {coreai.name = "chances"}) {
    %0 = coreai.constant dense<0> : tensor<2xsi32>
    %1 = coreai.constant dense<[2, 4]> : tensor<2xsi32>
    %2 = coreai.constant dense<1> : tensor<2xsi32>
    %3 = coreai.constant dense_resource<weight: 8 bytes> : tensor<4xf16>
    %4 = coreai.constant dense<1> : tensor<si32>
    %5 = coreai.create_token : !coreai.token
    %6:2 = coreai.read_handle %arg1, %5 : (!coreai.handle<tensor<2x?xf16>>, !coreai.token) -> (tensor<2x?xf16>, !coreai.token)
    %7 = coreai.slice_update %6#0, %0, %1, %2, %arg0 : (tensor<2x?xf16>, tensor<2xsi32>, tensor<2xsi32>, tensor<2xsi32>, tensor<2x4xf16>) -> tensor<2x?xf16>
    %8 = coreai.write_handle %arg1, %7, %6#1 : (!coreai.handle<tensor<2x?xf16>>, tensor<2x?xf16>, !coreai.token) -> !coreai.token
    %9 = coreai.invoke @norm(%arg0, %3) : (tensor<2x4xf16>, tensor<4xf16>) -> tensor<2x4xf16>
    %10 = coreai.softmax %9, %4 : (tensor<2x4xf16>, tensor<si32>) -> tensor<2x4xf16>
    coreai.output %8, %10 : !coreai.token, tensor<2x4xf16>
  }
}
