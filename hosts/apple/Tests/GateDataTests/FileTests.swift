import GateData
import XCTest

/// The two files of the device stage. `FIXTURE` in the environment names a fixture to answer instead
/// of the committed one, and `TRANSCRIPT` where to leave the answer for the gate to judge.
final class FileTests: XCTestCase {
    private let environment = ProcessInfo.processInfo.environment

    /// The committed fixture is the gate's for nano, without the two prompts that have pictures.
    private var path: URL {
        environment["FIXTURE"].map { URL(fileURLWithPath: $0) }
            ?? file("hosts/apple/Tests/GateDataTests/fixture.json")
    }

    func testAFixtureIsReadAndItsInputsAreThoseOfTheGate() throws {
        let fixture = try Fixture(contentsOf: path)
        let written = try json(Data(contentsOf: path))
        let prompts = try XCTUnwrap(written["prompts"] as? [[String: Any]])
        XCTAssertEqual(fixture.decoder.name, "nano_decode_int8hu_s1.aimodel")
        XCTAssertEqual(fixture.runs, written["runs"] as? Int)
        XCTAssertEqual(fixture.prompts.count, prompts.count)
        for (prompt, written) in zip(fixture.prompts, prompts) {
            XCTAssertEqual(prompt.name, written["name"] as? String)
            XCTAssertEqual(prompt.patches == nil, written["patches"] is NSNull)
            XCTAssertEqual(try sha256(prompt.fed), written["input"] as? String)
            if let patches = prompt.patches {
                XCTAssertEqual(try patches.scalars().count, patches.rows * patches.columns)
            }
        }
    }

    func testPatchesAreLittleEndianHalves() throws {
        let patches = try read(
            Patches.self, #"{"rows": 1, "columns": 3, "values": "ADwAvAA4"}"#)
        XCTAssertEqual(try patches.scalars(), [1, -1, 0.5])
        let short = try read(Patches.self, #"{"rows": 2, "columns": 3, "values": "ADwAvAA4"}"#)
        XCTAssertThrowsError(try short.scalars())
    }

    func testAFixtureThatCannotBeRunIsRefused() throws {
        let written = try json(Data(contentsOf: path))
        let prompts = try XCTUnwrap(written["prompts"] as? [[String: Any]])
        let faults: [(key: String, value: Any, said: String)] = [
            ("version", 2, "version 2"), ("runs", 0, "0 runs"), ("ids", [Int](), "no ids"),
            ("expected", [Int](), "expects no tokens"),
        ]
        for fault in faults {
            var changed = written
            if written[fault.key] != nil {
                changed[fault.key] = fault.value
            } else {
                changed["prompts"] = prompts.map { $0.merging([fault.key: fault.value]) { $1 } }
            }
            let copy = temporary()
            try JSONSerialization.data(withJSONObject: changed).write(to: copy)
            XCTAssertThrowsError(try Fixture(contentsOf: copy)) { error in
                XCTAssertTrue(error.localizedDescription.contains(fault.said), "\(error)")
            }
        }
    }

    /// The keys are those of docs/run-contract.md, whose reader refuses any other.
    func testATranscriptHasTheKeysOfTheContract() throws {
        let fixture = try Fixture(contentsOf: path)
        let transcript = environment["TRANSCRIPT"].map { URL(fileURLWithPath: $0) } ?? temporary()
        try answered(fixture).write(to: transcript)

        let written = try json(Data(contentsOf: transcript))
        XCTAssertEqual(
            Set(written.keys),
            ["version", "made_with", "host", "engine", "decoder", "vision", "prompts"])
        let host = try XCTUnwrap(written["host"] as? [String: String])
        XCTAssertEqual(Set(host.keys), ["platform", "model", "os", "os_build"])
        XCTAssertFalse(host.values.contains { $0.isEmpty || $0 == "unknown" }, "\(host)")
        #if os(Linux)
        XCTAssertEqual(host["platform"], "linux")
        #else
        XCTAssertEqual(host["platform"], "macos")
        #endif
        let decoder = try XCTUnwrap(written["decoder"] as? [String: Any])
        XCTAssertEqual(Set(decoder.keys), ["name", "sha256", "load_seconds"])
        let prompt = try XCTUnwrap((written["prompts"] as? [[String: Any]])?.first)
        XCTAssertEqual(Set(prompt.keys), ["name", "input", "runs"])
        let run = try XCTUnwrap((prompt["runs"] as? [[String: Any]])?.first)
        let keys: Set = ["tokens", "first_seconds", "total_seconds"]
        let pictured = fixture.prompts[0].patches != nil
        XCTAssertEqual(Set(run.keys), pictured ? keys.union(["vision_seconds"]) : keys)
        XCTAssertEqual(run["total_seconds"] as? Double, 1.5)
    }

    /// The tokens that the fixture expects: what is tested is the form, and no model has run.
    private func answered(_ fixture: Fixture) throws -> Transcript {
        func loaded(_ asset: AssetID) -> Loaded {
            Loaded(name: asset.name, sha256: asset.sha256, loadSeconds: 0.25)
        }
        let prompts = try fixture.prompts.map { prompt in
            var run = Run(
                tokens: prompt.expected, firstSeconds: 0.5,
                totalSeconds: seconds(.milliseconds(1500)))
            run.visionSeconds = prompt.patches == nil ? nil : 0.125
            return PromptRuns(
                name: prompt.name, input: try sha256(prompt.fed),
                runs: Array(repeating: run, count: fixture.runs))
        }
        return Transcript(
            madeWith: "a test of hosts/apple, without a model", host: Host.current, engine: "none",
            decoder: loaded(fixture.decoder), vision: loaded(fixture.vision), prompts: prompts)
    }

    private func read<T: Decodable>(_ type: T.Type, _ text: String) throws -> T {
        try JSONDecoder().decode(type, from: Data(text.utf8))
    }

    private func json(_ data: Data) throws -> [String: Any] {
        try XCTUnwrap(JSONSerialization.jsonObject(with: data) as? [String: Any])
    }
}
