import CryptoKit
import Foundation

/// The version of fixtures and transcripts.
let version = 1

/// What this host is asked: bundles, prompts, and how many runs.
///
/// `crates/gate/src/device.rs` writes it, and says what each field is.
public struct Fixture: Decodable {
    let version: Int
    let decoder: AssetID
    let vision: AssetID
    let runs: Int
    let prompts: [Prompt]

    /// Reads the JSON file at `url`.
    public init(contentsOf url: URL) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        self = try decoder.decode(Fixture.self, from: Data(contentsOf: url))
        guard version == DeviceGate.version else {
            throw GateError(
                "\(url.path) has version \(version), expected \(DeviceGate.version): export it again")
        }
    }
}

/// Which asset: the name of the `.aimodel` folder, and the SHA-256 of its `main.mlirb`.
struct AssetID: Decodable {
    let name: String
    let sha256: String
}

/// A prompt as the decoder takes it.
struct Prompt: Decodable {
    let name: String
    /// Token ids; the image's token in slot k is V + k.
    let ids: [Int32]
    let ropeShiftStart: Int32
    let ropeShiftAmount: Int32
    let patches: Patches?
    /// The tokens that are expected: as many are generated.
    let expected: [UInt32]

    /// SHA-256 of what the model is given: the number of ids, the ids, the two numbers of the
    /// shift, each an Int32 in little-endian order, and the bytes of the patches.
    var input: String {
        var hash = SHA256()
        for number in [Int32(ids.count)] + ids + [ropeShiftStart, ropeShiftAmount] {
            withUnsafeBytes(of: number.littleEndian) { hash.update(bufferPointer: $0) }
        }
        if let patches {
            hash.update(data: patches.values)
        }
        return hex(hash.finalize())
    }
}

/// Patches of a picture: `rows` × `columns` of Float16, row by row, little-endian; base64 in JSON.
struct Patches: Decodable {
    let rows: Int
    let columns: Int
    let values: Data

    /// The values as numbers.
    func scalars() throws -> [Float16] {
        guard values.count == 2 * rows * columns else {
            throw GateError("the fixture's patches have \(values.count) bytes, expected \(2 * rows * columns)")
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
struct GateError: LocalizedError {
    let errorDescription: String?

    init(_ description: String) {
        errorDescription = description
    }
}

/// Lower-case hexadecimal digits.
func hex(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { String(format: "%02x", $0) }.joined()
}
