import Foundation

public struct SHA256Digest: Sequence, Sendable {
    public func makeIterator() -> Array<UInt8>.Iterator { fatalError() }
}

public struct SHA256 {
    public init() {}
    public mutating func update(data: some DataProtocol) {}
    public func finalize() -> SHA256Digest { fatalError() }
    public static func hash(data: some DataProtocol) -> SHA256Digest { fatalError() }
}

/// Foundation's on Apple's systems.
public func autoreleasepool<R, E: Error>(invoking body: () throws(E) -> R) throws(E) -> R {
    try body()
}
