// Views are tied to what they look into. Swift 6.0 cannot say so: there, shapes and strides are
// arrays in place of spans, and views are values that cannot be copied.

#if compiler(>=6.2)
extension InferenceFunction {
    public struct MutableViews: ~Copyable, ~Escapable {
        @_lifetime(immortal)
        public init() {}
        @_lifetime(self: copy self, &array)
        public mutating func insert(_ array: inout NDArray, for name: String) {}
    }
}

extension NDArray {
    @_lifetime(borrow self)
    public func view<T: BitwiseCopyable>(as type: T.Type) -> View<T> { fatalError() }
    @_lifetime(&self)
    public mutating func mutableView<T: BitwiseCopyable>(as type: T.Type) -> MutableView<T> {
        fatalError()
    }

    public struct View<T: BitwiseCopyable>: ~Escapable {
        public func withUnsafePointer<R, E: Error>(
            _ body: (UnsafePointer<T>, Span<Int>, Span<Int>) throws(E) -> R
        ) throws(E) -> R { fatalError() }
    }

    public struct MutableView<T: BitwiseCopyable>: ~Copyable, ~Escapable {
        @_lifetime(self: copy self)
        public mutating func copyElements(fromContentsOf elements: some Collection<T>) {}
    }
}
#else
extension InferenceFunction {
    public struct MutableViews: ~Copyable {
        public init() {}
        public mutating func insert(_ array: inout NDArray, for name: String) {}
    }
}

extension NDArray {
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
#endif
