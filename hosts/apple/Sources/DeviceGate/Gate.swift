import CoreAI
import Foundation
import GateData

/// The engines that a run can ask for.
public enum EngineChoice: String, Sendable {
    /// Core AI alone.
    case coreai
    /// The pipelined engine, where this package was built with it.
    case pipelined
}

/// Answers `fixture` with bundles that lie in `folder`, each in a folder of its name, and writes the
/// transcript. `log` is told what happens.
public func runGate(
    fixture file: URL, bundlesIn folder: URL, transcript: URL, engine choice: EngineChoice,
    log: @escaping @Sendable (String) -> Void
) async throws {
    // What an earlier run has left may not pass for this one's.
    try? FileManager.default.removeItem(at: transcript)
    let fixture = try Fixture(contentsOf: file)

    let (decoderHash, decoderURL) = try find(fixture.decoder, in: folder)
    log("decoder: \(fixture.decoder.name)")
    let clock = ContinuousClock()
    var began = clock.now
    let engine = try await makeEngine(choice, decoderAt: decoderURL)
    let decoder = Loaded(
        name: fixture.decoder.name, sha256: decoderHash, loadSeconds: seconds(clock.now - began))
    log("loaded in \(decoder.loadSeconds) s, engine \(engine.name)")

    var vision: Loaded?
    var encoder: VisionEncoder?
    if fixture.prompts.contains(where: { $0.patches != nil }) {
        let (hash, url) = try find(fixture.vision, in: folder)
        began = clock.now
        encoder = VisionEncoder(function: try main(of: await load(url, reshapes: false)))
        let loaded = seconds(clock.now - began)
        vision = Loaded(name: fixture.vision.name, sha256: hash, loadSeconds: loaded)
        log("vision encoder: \(fixture.vision.name), loaded in \(loaded) s")
    }
    if let id = fixture.prompts.first?.ids.first {
        try await engine.warmUp(with: id)
    }

    var prompts: [PromptRuns] = []
    for prompt in fixture.prompts {
        var runs: [Run] = []
        for number in 1...fixture.runs {
            let run = try await answer(prompt, engine, encoder)
            let verdict = run.tokens == prompt.expected ? "as expected" : "OTHER THAN EXPECTED"
            log(
                "\(prompt.name), run \(number) of \(fixture.runs): \(run.tokens.count) tokens \(verdict)"
            )
            runs.append(run)
        }
        prompts.append(PromptRuns(name: prompt.name, input: prompt.input, runs: runs))
    }
    let host = Host.current
    try Transcript(
        madeWith: host.words, host: host, engine: engine.name, decoder: decoder, vision: vision,
        prompts: prompts
    ).write(to: transcript)
    log("written: \(transcript.path)")
}

/// One run, the vision encoder included.
private func answer(
    _ prompt: Prompt, _ engine: any Engine, _ encoder: VisionEncoder?
) async throws -> Run {
    guard let patches = prompt.patches else {
        return try await engine.run(prompt, image: nil)
    }
    guard let encoder else {
        throw GateError("prompt \(prompt.name) has a picture, and there is no vision encoder")
    }
    let clock = ContinuousClock()
    let began = clock.now
    let image = try await encoder.encode(patches)
    let visionSeconds = seconds(clock.now - began)
    var run = try await engine.run(prompt, image: image)
    run.visionSeconds = visionSeconds
    return run
}

/// The asset's hash as computed here, which must be the fixture's, and where it lies.
private func find(_ asset: AssetID, in folder: URL) throws -> (hash: String, url: URL) {
    let bundle = folder.appending(path: (asset.name as NSString).deletingPathExtension)
    // Core AI does not specialize an asset behind a symbolic link.
    let url = bundle.appending(path: asset.name).resolvingSymlinksInPath()
    let program = url.appending(path: "main.mlirb")
    let hash = try fileHash(program)
    guard hash == asset.sha256 else {
        throw GateError(
            "\(program.path) has SHA-256 \(hash), and the fixture is for \(asset.sha256)")
    }
    return (hash, url)
}

/// The asset at `url`, for the GPU. `reshapes` says whether its inputs have another length at every
/// call, as a decoder's position_ids and cache do. The vision encoder's never change: a fixed graph
/// that is loaded as if they did crashes on iOS.
private func load(_ url: URL, reshapes: Bool) async throws -> AIModel {
    var options = SpecializationOptions(preferredComputeUnitKind: .gpu)
    options.expectFrequentReshapes = reshapes
    return try await AIModel(contentsOf: url, options: options)
}

/// The function `main`, with its weights.
private func main(of model: AIModel) throws -> InferenceFunction {
    guard let function = try model.loadFunction(named: "main") else {
        throw GateError("the asset has no function main, only \(model.functionNames)")
    }
    return function
}

private func makeEngine(_ choice: EngineChoice, decoderAt url: URL) async throws -> any Engine {
    switch choice {
    case .coreai:
        return CoreAIEngine(function: try main(of: await load(url, reshapes: true)))
    case .pipelined:
        #if PIPELINED_ENGINE
        // It loads the weights itself; here only the shapes of the inputs are looked at.
        guard let main = try await load(url, reshapes: true).functionDescriptor(for: "main") else {
            throw GateError("\(url.path) has no function main")
        }
        return try await PipelinedEngine(bundleAt: url.deletingLastPathComponent(), main: main)
        #else
        throw GateError(
            "built without the pipelined engine: set COREAI_MODELS_FORK to a checkout of it")
        #endif
    }
}
