import CoreGraphics
import Foundation
import GateData

extension Patches {
    /// The patches of an upright picture, stretched to the square that the bundle states.
    init(picture: CGImage, geometry: PictureGeometry) throws {
        try self.init(
            levels: levels(of: picture), width: picture.width, height: picture.height,
            geometry: geometry)
    }
}

/// Red, green and blue of each pixel, row by row, on white. The picture's own numbers: the model
/// was trained on them, whatever colour space they mean.
private func levels(of picture: CGImage) throws -> [UInt8] {
    let (width, height) = (picture.width, picture.height)
    let own = picture.colorSpace.flatMap { $0.model == .rgb ? $0 : nil }
    guard let space = own ?? CGColorSpace(name: CGColorSpace.sRGB),
        let context = CGContext(
            data: nil, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 4 * width,
            space: space, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
    else {
        throw GateError("a picture of \(width) × \(height) pixels cannot be drawn")
    }
    let frame = CGRect(x: 0, y: 0, width: width, height: height)
    context.setFillColor(red: 1, green: 1, blue: 1, alpha: 1)
    context.fill(frame)
    context.draw(picture, in: frame)
    guard let data = context.data else {
        throw GateError("a picture of \(width) × \(height) pixels has no memory")
    }
    let pixels = UnsafeRawBufferPointer(start: data, count: 4 * width * height)
    return (0..<3 * width * height).map { pixels[$0 / 3 * 4 + $0 % 3] }
}
