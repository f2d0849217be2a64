import Foundation

public struct AIModel: Sendable {
    public var functionNames: [String] { fatalError() }
    public init(contentsOf url: URL, options: SpecializationOptions) async throws { fatalError() }
    public func functionDescriptor(for name: String) -> InferenceFunctionDescriptor? {
        fatalError()
    }
    public func loadFunction(named name: String) throws -> InferenceFunction? { fatalError() }
}

public enum ComputeUnitKind: Sendable {
    case cpu, gpu, neuralEngine
}

public struct SpecializationOptions: Sendable {
    public var expectFrequentReshapes = false
    public init(preferredComputeUnitKind: ComputeUnitKind) {}
}

public struct InferenceFunction: Sendable {
    public var descriptor: InferenceFunctionDescriptor { fatalError() }

    public func run(
        inputs: [String: NDArray], states: consuming MutableViews = MutableViews(),
        outputViews: consuming MutableViews = MutableViews()
    ) async throws -> Outputs { fatalError() }

    public struct Outputs: ~Copyable {
        public mutating func remove(_ name: String) -> InferenceValue? { fatalError() }
    }
}

public struct InferenceFunctionDescriptor: Sendable {
    public var name: String { fatalError() }
    public func inputDescriptor(of name: String) -> InferenceValue.Descriptor? { fatalError() }
    public func stateDescriptor(of name: String) -> InferenceValue.Descriptor? { fatalError() }
}

public struct InferenceValue {
    public enum Descriptor: Sendable {
        case ndArray(NDArrayDescriptor)
        case image(Never)
    }

    public var ndArray: NDArray? { fatalError() }
}

public struct NDArrayDescriptor: Sendable {
    public var shape: [Int] { fatalError() }
    public var minimumByteCount: Int { fatalError() }
    public func resolvingDynamicDimensions(_ shape: [Int]) -> NDArrayDescriptor { fatalError() }
}

public struct NDArray: Sendable {
    public init(descriptor: consuming NDArrayDescriptor) { fatalError() }
}
