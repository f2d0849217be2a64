import Foundation

/// What this host answers. `crates/gate/src/device/transcript.rs` reads it, and says what each field is.
package struct Transcript: Encodable {
    let version = formatVersion
    let madeWith: String
    let host: Host
    let engine: String
    let decoder: Loaded
    let vision: Loaded?
    let prompts: [PromptRuns]

    package init(
        madeWith: String, host: Host, engine: String, decoder: Loaded, vision: Loaded?,
        prompts: [PromptRuns]
    ) {
        self.madeWith = madeWith
        self.host = host
        self.engine = engine
        self.decoder = decoder
        self.vision = vision
        self.prompts = prompts
    }

    /// Writes it to `url`, whole or not at all.
    package func write(to url: URL) throws {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try encoder.encode(self).write(to: url, options: .atomic)
    }
}

/// An asset that was loaded, with the SHA-256 that this host computed.
package struct Loaded: Encodable {
    let name: String
    let sha256: String
    package let loadSeconds: Double

    package init(name: String, sha256: String, loadSeconds: Double) {
        self.name = name
        self.sha256 = sha256
        self.loadSeconds = loadSeconds
    }
}

/// All runs of a prompt.
package struct PromptRuns: Encodable {
    let name: String
    let input: String
    let runs: [Run]

    package init(name: String, input: String, runs: [Run]) {
        self.name = name
        self.input = input
        self.runs = runs
    }
}

/// One run of a prompt; times are in seconds from the first id that is fed.
package struct Run: Encodable {
    package let tokens: [UInt32]
    /// How long the vision encoder took; nothing without a picture.
    package var visionSeconds: Double?
    let firstSeconds: Double
    let totalSeconds: Double

    package init(tokens: [UInt32], firstSeconds: Double, totalSeconds: Double) {
        self.tokens = tokens
        self.firstSeconds = firstSeconds
        self.totalSeconds = totalSeconds
    }
}

/// This machine.
package struct Host: Encodable {
    let platform: String
    let model: String
    let os: String
    let osBuild: String

    package static var current: Host {
        #if targetEnvironment(simulator)
        let (platform, system) = ("simulator", "Simulator")
        let (model, build) = ("hw.machine", "kern.osversion")
        #elseif os(iOS)
        // An app for iPhones can run on a Mac, too.
        let isMac = ProcessInfo.processInfo.isMacCatalystApp
        let (platform, system) = isMac ? ("macos", "macOS") : ("ios", "iOS")
        let (model, build) = (isMac ? "hw.model" : "hw.machine", "kern.osversion")
        #elseif os(macOS)
        let (platform, system) = ("macos", "macOS")
        let (model, build) = ("hw.model", "kern.osversion")
        #elseif os(Linux)
        let (platform, system) = ("linux", "Linux")
        let (model, build) = ("arch", "version")
        #else
        #error("docs/run-contract.md has no platform for this system")
        #endif
        let number = ProcessInfo.processInfo.operatingSystemVersion
        return Host(
            platform: platform,
            model: kernelString(model),
            os: "\(system) \(number.majorVersion).\(number.minorVersion).\(number.patchVersion)",
            osBuild: kernelString(build))
    }

    /// For people: the machine and its system.
    package var words: String {
        "Core AI on \(model), \(os) (\(osBuild))"
    }
}

/// A string that the kernel knows under `name`.
private func kernelString(_ name: String) -> String {
    #if os(Linux)
    let text = try? String(contentsOfFile: "/proc/sys/kernel/\(name)", encoding: .utf8)
    return text?.trimmingCharacters(in: .whitespacesAndNewlines) ?? "unknown"
    #else
    var size = 0
    guard sysctlbyname(name, nil, &size, nil, 0) == 0, size > 0 else { return "unknown" }
    var bytes = [UInt8](repeating: 0, count: size)
    guard sysctlbyname(name, &bytes, &size, nil, 0) == 0 else { return "unknown" }
    return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    #endif
}

/// Seconds of a duration.
package func seconds(_ duration: Duration) -> Double {
    let (whole, attoseconds) = duration.components
    return Double(whole) + Double(attoseconds) / 1e18
}
