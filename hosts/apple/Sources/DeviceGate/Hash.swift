import CryptoKit
import Foundation
import GateData

extension Prompt {
    /// SHA-256 of what the model is given.
    var input: String {
        hex(SHA256.hash(data: fed))
    }
}

/// SHA-256 of a file of any size.
func fileHash(_ url: URL) throws -> String {
    let file = try FileHandle(forReadingFrom: url)
    defer { try? file.close() }
    var hash = SHA256()
    // Without a pool, what was read stays in memory until the end.
    while try autoreleasepool(invoking: {
        guard let part = try file.read(upToCount: 1 << 24), !part.isEmpty else { return false }
        hash.update(data: part)
        return true
    }) {}
    return hex(hash.finalize())
}

/// Lower-case hexadecimal digits.
private func hex(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { String(format: "%02x", $0) }.joined()
}
