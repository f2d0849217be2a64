#if PIPELINED_ENGINE
import CoreAI
import CoreAILanguageModels
import Foundation
import GateData
import Metal

/// The pipelined engine of coreai-models, which apps ship: it samples on the GPU and does not wait
/// for each token. What the image brings lies in buffers that are bound to every call. Its own
/// warm-up must never be called: it feeds 256 tokens, and the decoder takes one.
final class PipelinedEngine: Engine {
    let name = "coreai-pipelined"
    private let engine: any InferenceEngine
    /// By the decoder's input.
    private let buffers: [String: any MTLBuffer]

    /// Opens the bundle at `url`, whose decoder's function is `main`.
    init(bundleAt url: URL, main: InferenceFunctionDescriptor) async throws {
        // Read when the engine is made. The decoder takes one token a call, so a prompt of more
        // must be fed in chunks of one.
        setenv("COREAI_CHUNK_THRESHOLD", "1", 1)
        guard let device = MTLCreateSystemDefaultDevice() else {
            throw GateError("there is no Metal device")
        }
        var buffers: [String: any MTLBuffer] = [:]
        for name in ["image_embeds", "deepstack_embeds", "rope_shift_start", "rope_shift_amount"] {
            guard case .ndArray(let expected) = main.inputDescriptor(of: name) else {
                throw GateError("function main has no input \(name)")
            }
            // The two numbers of the shift have 4 bytes each; a bound buffer has at least 64.
            let bytes = max(64, expected.minimumByteCount)
            guard let buffer = device.makeBuffer(length: bytes, options: .storageModeShared) else {
                throw GateError("no memory for \(bytes) bytes of \(name)")
            }
            buffers[name] = buffer
        }
        self.buffers = buffers

        let bundle = try LanguageBundle(at: url)
        let config = ModelConfig(
            name: bundle.name,
            tokenizer: bundle.tokenizer,
            vocabSize: bundle.vocabSize,
            maxContextLength: bundle.maxContextLength,
            serializedModel: [bundle.modelAssetPath],
            function: "main")
        engine = try await EngineFactory.createEngine(
            config: JSONEncoder().encode(config),
            modelURL: bundle.requireModelURL(for: "main"),
            options: EngineOptions(
                variant: "coreai-pipelined",
                kvCacheStrategy: .growing,
                // It doubles when it is full, and 2,048 is too much for iOS.
                kvCacheSize: min(bundle.maxContextLength, 1_024),
                staticInputBuffers: buffers.mapValues { StaticInputBuffer($0) }))
    }

    func run(_ prompt: Prompt, image: ImageEmbeds?) async throws -> Run {
        _ = try prompt.length
        try await engine.reset()
        try write(image?.embeds ?? [], to: "image_embeds")
        try write(image?.deepstack ?? [], to: "deepstack_embeds")
        try write([prompt.ropeShiftStart], to: "rope_shift_start")
        try write([prompt.ropeShiftAmount], to: "rope_shift_amount")
        return try await decode(prompt, with: engine)
    }

    private func decode(_ prompt: Prompt, with engine: some InferenceEngine) async throws -> Run {
        var tokens: [UInt32] = []
        var first = Duration.zero
        let clock = ContinuousClock()
        let began = clock.now
        let outputs = try await engine.generate(
            with: prompt.ids,
            samplingConfiguration: .greedy,
            inferenceOptions: InferenceOptions(maxTokens: prompt.expected.count))
        for try await output in outputs {
            if tokens.isEmpty {
                first = clock.now - began
            }
            tokens.append(UInt32(output.tokenId))
        }
        return Run(
            tokens: tokens, firstSeconds: seconds(first),
            totalSeconds: seconds(clock.now - began))
    }

    /// Writes scalars to the buffer of an input, and zeros after them.
    private func write<Scalar: BitwiseCopyable>(_ scalars: [Scalar], to name: String) throws {
        guard let buffer = buffers[name] else { return }
        try scalars.withUnsafeBytes { bytes in
            guard bytes.count <= buffer.length else {
                throw GateError("\(name) has \(bytes.count) bytes, expected \(buffer.length)")
            }
            memset(buffer.contents(), 0, buffer.length)
            if let start = bytes.baseAddress {
                memcpy(buffer.contents(), start, bytes.count)
            }
        }
    }
}
#endif
