@_exported import Foundation

public final class CGImage: Sendable {
    public var width: Int { fatalError() }
    public var height: Int { fatalError() }
    public var colorSpace: CGColorSpace? { fatalError() }
}

public enum CGColorSpaceModel: Sendable {
    case monochrome, rgb, cmyk
}

public final class CGColorSpace: Sendable {
    public static let sRGB = "sRGB"
    public var model: CGColorSpaceModel { fatalError() }
    public init?(name: String) { nil }
}

public enum CGImageAlphaInfo: UInt32 {
    case noneSkipLast = 5
}

public final class CGContext {
    public var data: UnsafeMutableRawPointer? { fatalError() }
    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int,
        bytesPerRow: Int, space: CGColorSpace, bitmapInfo: UInt32
    ) { nil }
    public func setFillColor(red: CGFloat, green: CGFloat, blue: CGFloat, alpha: CGFloat) {}
    public func fill(_ rect: CGRect) {}
    public func draw(_ image: CGImage, in rect: CGRect) {}
    public func makeImage() -> CGImage? { fatalError() }
}
