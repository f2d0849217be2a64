// Swift 6.0 has no spans and no types that cannot escape: shapes and strides are arrays here, and
// views are values that cannot be copied.

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
        inputs: [String: NDArray], states: consuming MutableViews = MutableViews()
    ) async throws -> Outputs { fatalError() }

    public struct MutableViews: ~Copyable {
        public init() {}
        public mutating func insert(_ array: inout NDArray, for name: String) {}
    }

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
    public func view<T: BitwiseCopyable>(as type: T.Type) -> View<T> { fatalError() }
    public mutating func mutableView<T: BitwiseCopyable>(as type: T.Type) -> MutableView<T> {
        fatalError()
    }

    public struct View<T: BitwiseCopyable>: ~Copyable {
        public func withUnsafePointer<R, E: Error>(
            _ body: (UnsafePointer<T>, [Int], [Int]) throws(E) -> R
        ) throws(E) -> R { fatalError() }
    }

    public struct MutableView<T: BitwiseCopyable>: ~Copyable {
        public mutating func copyElements(fromContentsOf elements: some Collection<T>) {}
    }
}
