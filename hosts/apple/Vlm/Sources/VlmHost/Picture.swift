import CoreGraphics
import Foundation
import ImageIO

/// The picture in a file's bytes, upright and on white. Apple's package neither turns a picture by
/// its EXIF orientation nor puts white behind what is transparent.
public func uprightPicture(from file: Data) throws -> CGImage {
    // A thumbnail without a size is as large as the picture, and it can be turned.
    let upright = [
        kCGImageSourceCreateThumbnailFromImageAlways: true,
        kCGImageSourceCreateThumbnailWithTransform: true,
    ]
    guard let source = CGImageSourceCreateWithData(file as CFData, nil),
        let image = CGImageSourceCreateThumbnailAtIndex(source, 0, upright as CFDictionary),
        let space = CGColorSpace(name: CGColorSpace.sRGB),
        let context = CGContext(
            data: nil, width: image.width, height: image.height, bitsPerComponent: 8,
            bytesPerRow: 4 * image.width, space: space,
            bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
    else {
        throw HostError("the file is not a picture that this system reads")
    }
    let frame = CGRect(x: 0, y: 0, width: image.width, height: image.height)
    context.setFillColor(red: 1, green: 1, blue: 1, alpha: 1)
    context.fill(frame)
    context.draw(image, in: frame)
    guard let onWhite = context.makeImage() else {
        throw HostError("the file is not a picture that this system reads")
    }
    return onWhite
}
