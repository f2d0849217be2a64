@_exported import CoreGraphics

// Casts to these types are written as on Apple's systems, where they bridge.
public typealias CFData = Data
public typealias CFDictionary = [String: Bool]

public enum CGImagePropertyOrientation: UInt32, Sendable {
    case up = 1
}

public final class CGImageSource {}

public let kCGImageSourceCreateThumbnailFromImageAlways = "always"
public let kCGImageSourceCreateThumbnailWithTransform = "transform"

public func CGImageSourceCreateWithData(_ data: CFData, _ options: CFDictionary?) -> CGImageSource?
{
    fatalError()
}

public func CGImageSourceCreateThumbnailAtIndex(
    _ source: CGImageSource, _ index: Int, _ options: CFDictionary?
) -> CGImage? { fatalError() }
