import CryptoKit
import Foundation

/// What this host answers. `crates/gate/src/device.rs` reads it, and says what each field is.
struct Transcript: Encodable {
    let version: Int
    let madeWith: String
    let host: Host
    let engine: String
    let decoder: Loaded
    let vision: Loaded?
    let prompts: [PromptRuns]

    /// Writes it to `url`, whole or not at all.
    func write(to url: URL) throws {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try encoder.encode(self).write(to: url, options: .atomic)
    }
}

/// An asset that was loaded, with the SHA-256 that this host computed.
struct Loaded: Encodable {
    let name: String
    let sha256: String
    let loadSeconds: Double
}

/// All runs of a prompt.
struct PromptRuns: Encodable {
    let name: String
    let input: String
    let runs: [Run]
}

/// One run of a prompt; times are in seconds from the first id that is fed.
struct Run: Encodable {
    let tokens: [UInt32]
    let visionSeconds: Double?
    let firstSeconds: Double
    let totalSeconds: Double
}

/// This machine.
struct Host: Encodable {
    let platform: String
    let model: String
    let os: String
    let osBuild: String

    static var current: Host {
        #if targetEnvironment(simulator)
        let (platform, system, key) = ("simulator", "Simulator", "hw.machine")
        #elseif os(iOS)
        let (platform, system, key) = ("ios", "iOS", "hw.machine")
        #else
        let (platform, system, key) = ("macos", "macOS", "hw.model")
        #endif
        let number = ProcessInfo.processInfo.operatingSystemVersion
        return Host(
            platform: platform,
            model: systemString(key),
            os: "\(system) \(number.majorVersion).\(number.minorVersion).\(number.patchVersion)",
            osBuild: systemString("kern.osversion"))
    }

    /// For people: the machine and its system.
    var words: String {
        "Core AI on \(model), \(os) (\(osBuild))"
    }
}

/// A string that the kernel knows under `name`.
private func systemString(_ name: String) -> String {
    var size = 0
    guard sysctlbyname(name, nil, &size, nil, 0) == 0, size > 0 else { return "unknown" }
    var bytes = [UInt8](repeating: 0, count: size)
    guard sysctlbyname(name, &bytes, &size, nil, 0) == 0 else { return "unknown" }
    return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
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

/// Seconds of a duration.
func seconds(_ duration: Duration) -> Double {
    let (whole, attoseconds) = duration.components
    return Double(whole) + Double(attoseconds) / 1e18
}
