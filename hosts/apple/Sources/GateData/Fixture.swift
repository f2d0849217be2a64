import Foundation

/// The version of fixtures and transcripts.
package let formatVersion = 1

/// What this host is asked: bundles, prompts, and how many runs.
///
/// `crates/gate/src/device/fixture.rs` writes it, and says what each field is.
package struct Fixture: Decodable {
    let version: Int
    package let decoder: AssetID
    package let vision: AssetID
    /// How often each prompt is run: at least once.
    package let runs: Int
    package let prompts: [Prompt]

    /// Reads the JSON file at `url`.
    package init(contentsOf url: URL) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        self = try decoder.decode(Fixture.self, from: Data(contentsOf: url))
        guard version == formatVersion else {
            throw GateError(
                "\(url.path) has version \(version), expected \(formatVersion): export it again")
        }
        guard runs > 0 else {
            throw GateError("\(url.path) has \(runs) runs, expected at least 1")
        }
        for prompt in prompts where prompt.ids.isEmpty || prompt.expected.isEmpty {
            throw GateError("\(url.path): prompt \(prompt.name) has no ids or expects no tokens")
        }
    }
}

/// Which asset: the name of the `.aimodel` folder, and the SHA-256 of its `main.mlirb`.
package struct AssetID: Decodable {
    package let name: String
    package let sha256: String
}

/// A prompt as the decoder takes it.
package struct Prompt: Decodable {
    package let name: String
    /// Token ids; the image's token in slot k is V + k.
    package let ids: [Int32]
    package let ropeShiftStart: Int32
    package let ropeShiftAmount: Int32
    package let patches: Patches?
    /// The tokens that are expected: as many are generated.
    package let expected: [UInt32]

    package init(
        name: String, ids: [Int32], ropeShiftStart: Int32, ropeShiftAmount: Int32,
        patches: Patches?, expected: [UInt32]
    ) {
        self.name = name
        self.ids = ids
        self.ropeShiftStart = ropeShiftStart
        self.ropeShiftAmount = ropeShiftAmount
        self.patches = patches
        self.expected = expected
    }

    /// What the model is given, whose SHA-256 is the prompt's `input` in fixture and transcript: the
    /// number of ids, the ids, the two numbers of the shift, each an Int32 in little-endian order,
    /// and the bytes of the patches.
    package var fed: Data {
        var bytes = Data()
        for number in [Int32(ids.count)] + ids + [ropeShiftStart, ropeShiftAmount] {
            withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
        }
        return bytes + (patches?.values ?? Data())
    }
}

/// Patches of a picture: `rows` × `columns` of Float16, row by row, little-endian; base64 in JSON.
package struct Patches: Decodable {
    package let rows: Int
    package let columns: Int
    package let values: Data

    /// The values as numbers.
    package func scalars() throws -> [Float16] {
        guard values.count == 2 * rows * columns else {
            throw GateError(
                "the fixture's patches have \(values.count) bytes, expected \(2 * rows * columns)")
        }
        return values.withUnsafeBytes { bytes in
            (0..<rows * columns).map { index in
                let bits = bytes.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self)
                return Float16(bitPattern: UInt16(littleEndian: bits))
            }
        }
    }
}

/// What went wrong, in words.
package struct GateError: LocalizedError {
    package let errorDescription: String?

    package init(_ description: String) {
        errorDescription = description
    }
}
