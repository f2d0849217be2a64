import CoreAI
import Foundation
import GateData

/// Decodes greedily with an exported decoder.
protocol Engine {
    /// What the transcript calls it.
    var name: String { get }

    /// The tokens that follow `prompt`, as many as it expects, from an empty cache.
    func run(_ prompt: Prompt, image: ImageEmbeds?) async throws -> Run
}

extension Engine {
    /// One token after one id: specializes kernels and touches the weights. Nothing longer will
    /// do, because the decoder takes one token a call.
    func warmUp(with id: Int32) async throws {
        let prompt = Prompt(
            name: "warm-up", ids: [id], ropeShiftStart: 1 << 30, ropeShiftAmount: 0, patches: nil,
            expected: [0])
        _ = try await run(prompt, image: nil)
    }
}

/// What the vision encoder makes of a picture: [N, h] and [3N, h], row by row.
struct ImageEmbeds {
    let embeds: [Float16]
    let deepstack: [Float16]
}

/// The exported vision encoder.
struct VisionEncoder {
    let function: InferenceFunction

    func encode(_ patches: Patches) async throws -> ImageEmbeds {
        let input = try function.input(
            "patches", shape: [patches.rows, patches.columns], try patches.scalars())
        var outputs = try await function.run(inputs: ["patches": input])
        guard let embeds = outputs.remove("image_embeds")?.ndArray,
            let deepstack = outputs.remove("deepstack_embeds")?.ndArray
        else {
            throw GateError("the vision encoder gave no image_embeds or no deepstack_embeds")
        }
        return ImageEmbeds(embeds: rows(of: embeds), deepstack: rows(of: deepstack))
    }
}

/// Core AI's own way to call a function, one token a call. It waits for each token, so it says
/// nothing about the speed of an engine that does not.
struct CoreAIEngine: Engine {
    let name = "InferenceFunction.run, GPU preferred"
    let function: InferenceFunction

    func run(_ prompt: Prompt, image: ImageEmbeds?) async throws -> Run {
        let embeds = try function.input("image_embeds", image?.embeds)
        let deepstack = try function.input("deepstack_embeds", image?.deepstack)
        let start = try function.input("rope_shift_start", shape: [1], [prompt.ropeShiftStart])
        let amount = try function.input("rope_shift_amount", shape: [1], [prompt.ropeShiftAmount])
        let length = try prompt.length
        var keys = try function.cache("keyCache", tokens: length)
        var values = try function.cache("valueCache", tokens: length)

        var tokens: [UInt32] = []
        var first = Duration.zero
        let clock = ContinuousClock()
        let began = clock.now
        // The last token is not fed again.
        for position in 0..<length - 1 {
            let isPrompt = position < prompt.ids.count
            let id = isPrompt ? prompt.ids[position] : Int32(tokens[position - prompt.ids.count])
            let ramp = Array(0...Int32(position))
            let inputs = [
                "input_ids": try function.input("input_ids", shape: [1, 1], [id]),
                "position_ids": try function.input("position_ids", shape: [1, ramp.count], ramp),
                "image_embeds": embeds,
                "deepstack_embeds": deepstack,
                "rope_shift_start": start,
                "rope_shift_amount": amount,
            ]
            let token = try await step(inputs, &keys, &values)
            if position >= prompt.ids.count - 1 {
                tokens.append(token)
            }
            if position == prompt.ids.count - 1 {
                first = clock.now - began
            }
        }
        return Run(
            tokens: tokens, firstSeconds: seconds(first),
            totalSeconds: seconds(clock.now - began))
    }

    /// One call: the token with the largest logit.
    private func step(
        _ inputs: [String: NDArray], _ keys: inout NDArray, _ values: inout NDArray
    ) async throws -> UInt32 {
        var states = InferenceFunction.MutableViews()
        states.insert(&keys, for: "keyCache")
        states.insert(&values, for: "valueCache")
        var outputs = try await function.run(inputs: inputs, states: consume states)
        guard let logits = outputs.remove("logits")?.ndArray else {
            throw GateError("the decoder gave no logits")
        }
        return greatest(of: logits)
    }
}

extension InferenceFunction {
    /// An array for the input `name`, filled row by row.
    func input<Scalar: BitwiseCopyable>(
        _ name: String, shape: [Int], _ scalars: some Collection<Scalar>
    ) throws -> NDArray {
        guard case .ndArray(let expected) = descriptor.inputDescriptor(of: name) else {
            throw GateError("function \(descriptor.name) has no input \(name)")
        }
        return filled(expected.resolvingDynamicDimensions(shape), with: scalars)
    }

    /// An array for an input of a fixed shape, with zeros where there is no image.
    func input(_ name: String, _ scalars: [Float16]?) throws -> NDArray {
        guard case .ndArray(let expected) = descriptor.inputDescriptor(of: name) else {
            throw GateError("function \(descriptor.name) has no input \(name)")
        }
        let count = expected.shape.reduce(1, *)
        let scalars = scalars ?? Array(repeating: 0, count: count)
        guard scalars.count == count else {
            throw GateError(
                "the image's \(name) has \(scalars.count) numbers, and the decoder was exported "
                    + "for \(count); use the vision encoder of the same export")
        }
        return filled(expected, with: scalars)
    }

    /// A cache of zeros with room for `tokens`.
    func cache(_ name: String, tokens: Int) throws -> NDArray {
        guard case .ndArray(let expected) = descriptor.stateDescriptor(of: name) else {
            throw GateError("function \(descriptor.name) has no state \(name)")
        }
        let shape = expected.shape.map { $0 < 0 ? tokens : $0 }
        let zeros = repeatElement(Float16(0), count: shape.reduce(1, *))
        return filled(expected.resolvingDynamicDimensions(shape), with: zeros)
    }
}

/// How many tokens a cache may have room for, where there is a limit: with 2,048 and more, iOS 27
/// gives wrong tokens from the first one on.
#if os(iOS)
private let maxTokens = 1_024
#else
private let maxTokens = Int.max
#endif

extension Prompt {
    /// Tokens of the prompt and its answer.
    var length: Int {
        get throws {
            let length = ids.count + expected.count
            guard length <= maxTokens else {
                throw GateError("\(name) has \(length) tokens, and iOS is right up to \(maxTokens)")
            }
            return length
        }
    }
}

/// A new array with the strides that the function prefers.
private func filled<Scalar: BitwiseCopyable>(
    _ descriptor: NDArrayDescriptor, with scalars: some Collection<Scalar>
) -> NDArray {
    var array = NDArray(descriptor: descriptor)
    fill(&array, with: scalars)
    return array
}

private func fill<Scalar: BitwiseCopyable>(
    _ array: inout NDArray, with scalars: some Collection<Scalar>
) {
    var view = array.mutableView(as: Scalar.self)
    view.copyElements(fromContentsOf: scalars)
}

/// The numbers of a matrix, row by row.
private func rows(of array: NDArray) -> [Float16] {
    array.view(as: Float16.self).withUnsafePointer { first, shape, strides in
        var numbers: [Float16] = []
        numbers.reserveCapacity(shape[0] * shape[1])
        for row in 0..<shape[0] {
            for column in 0..<shape[1] {
                numbers.append(first[row * strides[0] + column * strides[1]])
            }
        }
        return numbers
    }
}

/// The token with the largest of the logits [1, 1, V]; the first of them if there are several.
private func greatest(of logits: NDArray) -> UInt32 {
    logits.view(as: Float16.self).withUnsafePointer { first, shape, strides in
        var best = 0
        for token in 1..<shape[2] where first[token * strides[2]] > first[best * strides[2]] {
            best = token
        }
        return UInt32(best)
    }
}
