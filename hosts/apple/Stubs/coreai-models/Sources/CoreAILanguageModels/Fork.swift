// In both packages, but for the static inputs, which the fork alone has.

import Foundation
import Metal

public struct LanguageBundle {
    public var name: String { fatalError() }
    public var tokenizer: String { fatalError() }
    public var vocabSize: Int { fatalError() }
    public var maxContextLength: Int { fatalError() }
    public var modelAssetPath: String { fatalError() }
    public init(at url: URL) throws { fatalError() }
    public func requireModelURL(for key: String) throws -> URL { fatalError() }
}

public struct ModelConfig: Codable, Sendable {
    public init(
        name: String, tokenizer: String, vocabSize: Int, maxContextLength: Int,
        serializedModel: [String], function: String
    ) {}
}

public struct InferenceOptions: Sendable {
    public init(maxTokens: Int? = nil) {}
}

public struct SamplingConfiguration: Sendable {
    public static let greedy = SamplingConfiguration()
}

public struct InferenceOutput: Sendable {
    public var tokenId: Int32 { fatalError() }
}

public protocol InferenceEngine: Sendable {
    associatedtype OutputSequence: AsyncSequence<InferenceOutput, any Error>

    /// Not `async` in the fork as of commit 627fec7, where `await` is a warning and no more.
    func generate(
        with input: [Int32], samplingConfiguration: SamplingConfiguration,
        inferenceOptions: InferenceOptions
    ) async throws -> OutputSequence

    func reset() async throws
}

public enum KVCacheStrategy: Sendable {
    case auto, growing
}

public struct StaticInputBuffer: @unchecked Sendable {
    public init(_ buffer: any MTLBuffer) {}
}

public struct EngineOptions: Sendable {
    public init(
        variant: String? = nil, kvCacheStrategy: KVCacheStrategy = .auto, kvCacheSize: Int? = nil,
        staticInputBuffers: [String: StaticInputBuffer] = [:]
    ) {}
}

public enum EngineFactory {
    public static func createEngine(
        config: Data, modelURL: URL, options: EngineOptions
    ) async throws -> any InferenceEngine { fatalError() }
}
