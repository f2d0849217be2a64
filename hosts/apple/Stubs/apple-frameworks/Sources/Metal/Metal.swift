public protocol MTLBuffer: AnyObject {
    var length: Int { get }
    func contents() -> UnsafeMutableRawPointer
}

public struct MTLResourceOptions: OptionSet, Sendable {
    public let rawValue: UInt
    public init(rawValue: UInt) { self.rawValue = rawValue }
    public static let storageModeShared = MTLResourceOptions([])
}

public protocol MTLDevice: AnyObject {
    func makeBuffer(length: Int, options: MTLResourceOptions) -> (any MTLBuffer)?
}

public func MTLCreateSystemDefaultDevice() -> (any MTLDevice)? { nil }
