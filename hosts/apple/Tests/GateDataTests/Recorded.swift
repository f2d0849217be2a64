// What the tests compare with: files of this repository, none of which this code has made, and
// Python's hashes and PNG pictures.

import Foundation
import GateData

/// A file of the repository.
func file(_ path: String) -> URL {
    var root = URL(fileURLWithPath: #filePath)
    for _ in 0..<5 {
        root.deleteLastPathComponent()
    }
    return root.appendingPathComponent(path)
}

/// Where a test may write.
func temporary() -> URL {
    FileManager.default.temporaryDirectory.appendingPathComponent("gate-data-\(UUID().uuidString)")
}

/// Tensors of a safetensors file.
struct Tensors {
    private let bytes: Data
    private let header: [String: [String: Any]]

    init(_ path: String) throws {
        bytes = try Data(contentsOf: file(path))
        let parsed = try JSONSerialization.jsonObject(with: bytes.subdata(in: 8..<begin(of: bytes)))
        header = parsed as? [String: [String: Any]] ?? [:]
    }

    /// All bytes of a tensor.
    func raw(_ name: String) -> [UInt8] {
        let ends = header[name]?["data_offsets"] as? [Int] ?? [0, 0]
        return [UInt8](bytes.dropFirst(begin(of: bytes) + ends[0]).prefix(ends[1] - ends[0]))
    }

    /// A tensor of I32.
    func numbers(_ name: String) -> [Int32] {
        raw(name).withUnsafeBytes { bytes in
            (0..<bytes.count / 4).map {
                bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Int32.self)
            }
        }
    }
}

/// Where the tensors of a safetensors file begin.
private func begin(of bytes: Data) -> Int {
    8 + bytes.withUnsafeBytes { Int($0.loadUnaligned(as: UInt64.self)) }
}

/// The 8-bit RGB levels of a PNG file, as Python reads it.
func picture(_ path: String) throws -> (levels: [UInt8], width: Int, height: Int) {
    let script = file("hosts/apple/Tests/GateDataTests/png_levels.py")
    let output = try python([script.path, file(path).path])
    let size = output.withUnsafeBytes { bytes in
        [0, 4].map { Int(bytes.loadUnaligned(fromByteOffset: $0, as: UInt32.self)) }
    }
    return ([UInt8](output.dropFirst(8)), size[0], size[1])
}

/// SHA-256 as Python computes it.
func sha256(_ bytes: Data) throws -> String {
    let copy = temporary()
    try bytes.write(to: copy)
    defer { try? FileManager.default.removeItem(at: copy) }
    let script =
        "import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())"
    let output = try python(["-c", script, copy.path])
    return String(decoding: output, as: UTF8.self).trimmingCharacters(in: .newlines)
}

private func python(_ arguments: [String]) throws -> Data {
    let process = Process()
    let output = Pipe()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["python3"] + arguments
    process.standardOutput = output
    try process.run()
    let bytes = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
        throw GateError("python3 \(arguments) ended with \(process.terminationStatus)")
    }
    return bytes
}

/// A folder with a `metadata.json` that says of pictures what nano's does, but for `changes`.
func bundle(_ changes: [String: String] = [:]) throws -> URL {
    let nano = [
        "grid": "4", "image_tokens": "16", "first_image_id": "512", "patch_size": "16",
        "merge_size": "2", "temporal_patch_size": "2", "image_mean": "0.5,0.5,0.5",
        "image_std": "0.5,0.5,0.5", "resampling": "bicubic", "hidden_size": "128",
        "deepstack_layers": "0,1,2",
    ]
    let folder = temporary()
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let metadata = ["user_data": nano.merging(changes) { $1 }]
    try JSONSerialization.data(withJSONObject: metadata)
        .write(to: folder.appendingPathComponent("metadata.json"))
    return folder
}
