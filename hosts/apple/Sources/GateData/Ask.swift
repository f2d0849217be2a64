// From a picture and a question to what the bundles take. The device gate needs none of this,
// because its fixture holds prompts that are ready; an app does.

import Foundation

extension Prompt {
    /// A prompt from the tokens of the chat template, in which one `imagePad` stands for the
    /// picture whose `patches` these are, if there is one. `geometry` is what the bundle states, and
    /// `length` how many tokens to answer.
    package init(
        tokens: [Int32], imagePad: Int32, patches: Patches?, geometry: PictureGeometry, length: Int
    ) throws {
        let pads = tokens.filter { $0 == imagePad }.count
        guard pads == (patches == nil ? 0 : 1) else {
            throw GateError("the prompt has \(pads) image tokens, expected one for each picture")
        }
        let count = Int32(geometry.imageTokens)
        let first = Int32(geometry.firstImageId)
        let slots = first..<first + count
        let start = tokens.firstIndex(of: imagePad).map { Int32($0) + count }
        self.init(
            name: "ask",
            ids: tokens.flatMap { $0 == imagePad ? Array(slots) : [$0] },
            ropeShiftStart: start ?? 1 << 30,
            ropeShiftAmount: start == nil ? 0 : count - Int32(geometry.grid),
            patches: patches,
            expected: Array(repeating: 0, count: length))
    }
}

/// How pictures become tokens: `user_data` in the `metadata.json` of a decoder's bundle, where every
/// value is a string.
package struct PictureGeometry {
    /// Image tokens along a side of the square to which a picture is stretched.
    let grid: Int
    /// Tokens of a picture.
    let imageTokens: Int
    /// The id of a picture's first token.
    let firstImageId: Int
    /// A patch is this many pixels wide and high.
    let patchSize: Int
    /// Patches along a side of an image token.
    let mergeSize: Int
    /// Frames in a patch.
    let temporalPatchSize: Int

    /// Reads the metadata in a bundle's folder.
    package init(bundle: URL) throws {
        let data = try Data(contentsOf: bundle.appendingPathComponent("metadata.json"))
        let metadata = try JSONSerialization.jsonObject(with: data) as? [String: Any]
        let values = metadata?["user_data"] as? [String: String] ?? [:]
        func expect(_ key: String, _ expected: String) throws {
            guard values[key] == expected else {
                throw GateError(
                    "metadata.json: user_data.\(key): expected \(expected), found "
                        + "\(values[key] ?? "nothing"); export the bundle again")
            }
        }
        func number(_ key: String, upTo max: Int) throws -> Int {
            guard let number = Int(values[key] ?? ""), (1...max).contains(number) else {
                throw GateError(
                    "metadata.json: user_data.\(key): expected a number from 1 to \(max), found "
                        + "\(values[key] ?? "nothing"); export the bundle again")
            }
            return number
        }
        grid = try number("grid", upTo: 64)
        imageTokens = try number("image_tokens", upTo: 64 * 64)
        firstImageId = try number("first_image_id", upTo: 1 << 24)
        patchSize = try number("patch_size", upTo: 64)
        mergeSize = try number("merge_size", upTo: 16)
        temporalPatchSize = try number("temporal_patch_size", upTo: 16)
        // What the code below does, and no other.
        try expect("image_tokens", String(grid * grid))
        try expect("image_mean", "0.5,0.5,0.5")
        try expect("image_std", "0.5,0.5,0.5")
        try expect("resampling", "bicubic")
    }
}

extension Patches {
    /// The patches of an upright picture, stretched to the square that the bundle states. `levels`
    /// are red, green and blue of each pixel, row by row.
    package init(levels: [UInt8], width: Int, height: Int, geometry: PictureGeometry) throws {
        guard width > 0, height > 0, levels.count == 3 * width * height else {
            throw GateError(
                "a picture of \(width) × \(height) pixels has \(levels.count) levels, expected "
                    + "three for each pixel")
        }
        let (grid, patch, merge) = (geometry.grid, geometry.patchSize, geometry.mergeSize)
        let frames = geometry.temporalPatchSize
        let side = grid * merge * patch
        let rows = grid * grid * merge * merge
        let wide = resample(levels, from: width, to: side, inner: 3)
        let square = resample(wide, from: height, to: side, inner: 3 * side)
        var values = Data(capacity: 2 * 3 * frames * side * side)
        for row in 0..<rows {
            let (block, within) = (row / (merge * merge), row % (merge * merge))
            let top = (block / grid * merge + within / merge) * patch
            let left = (block % grid * merge + within % merge) * patch
            for colour in 0..<3 {
                // A still picture is every frame of a patch.
                for _ in 0..<frames {
                    for y in top..<top + patch {
                        for x in left..<left + patch {
                            let level = Float(square[3 * (y * side + x) + colour])
                            let bits = Float16(level / 127.5 - 1).bitPattern.littleEndian
                            withUnsafeBytes(of: bits) { values.append(contentsOf: $0) }
                        }
                    }
                }
            }
        }
        self.init(rows: rows, columns: 3 * frames * patch * patch, values: values)
    }
}

/// Brings one axis of `from` entries to `to`: bicubic with a = −0.5, antialiased where it shrinks,
/// rounded to 8 bits, as Pillow and torchvision do. Before the axis there may be any number of
/// entries; after it are `inner`.
private func resample(_ levels: [UInt8], from: Int, to: Int, inner: Int) -> [UInt8] {
    let scale = Double(from) / Double(to)
    // Shrinking widens the kernel, which is the antialiasing.
    let stretch = max(scale, 1)
    let taps = (0..<to).map { target -> (first: Int, weights: [Double]) in
        let centre = (Double(target) + 0.5) * scale
        let first = Int(max((centre - 2 * stretch).rounded(.down), 0))
        let last = min(Int((centre + 2 * stretch).rounded(.up)), from)
        let weights = (first..<last).map { cubic((Double($0) + 0.5 - centre) / stretch) }
        let sum = weights.reduce(0, +)
        return (first, weights.map { $0 / sum })
    }
    var out: [UInt8] = []
    out.reserveCapacity(levels.count / from * to)
    for plane in stride(from: 0, to: levels.count, by: from * inner) {
        for (first, weights) in taps {
            for column in 0..<inner {
                var sum = 0.0
                for (offset, weight) in weights.enumerated() {
                    sum += weight * Double(levels[plane + (first + offset) * inner + column])
                }
                out.append(UInt8(min(max((sum + 0.5).rounded(.down), 0), 255)))
            }
        }
    }
    return out
}

/// The cubic convolution kernel with a = −0.5.
private func cubic(_ position: Double) -> Double {
    let x = abs(position)
    if x < 1 {
        return (1.5 * x - 2.5) * x * x + 1
    }
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0
}
