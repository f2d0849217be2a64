import GateData
import XCTest

final class AskTests: XCTestCase {
    private let imagePad: Int32 = 504

    /// The prompt of nano's scene 1 as the gate has it: the hash is of ids, shift and all patches,
    /// and is the `input` in the fixture that `cargo xtask gate --model nano --fixture` writes.
    func testAPictureAndTokensMakeThePromptOfTheGate() throws {
        let scene = try picture("oracles/nano/scenes/scene-1.png")
        let geometry = try PictureGeometry(bundle: bundle())
        let patches = try Patches(
            levels: scene.levels, width: scene.width, height: scene.height, geometry: geometry)
        let prompt = try Prompt(
            tokens: tokens(), imagePad: imagePad, patches: patches, geometry: geometry, length: 24)
        XCTAssertEqual(Array(prompt.ids[3..<21]), [506] + Array(512..<528) + [507])
        XCTAssertEqual(
            try sha256(prompt.fed),
            "7e5f1ce61708bc3d5abdbbb2c88b947a5d4ad80bfbc6a4f82aa3b7d07f2954ef")
    }

    /// Behind a picture a token's position is its place less the shift, as transformers has it.
    func testTheShiftGivesThePositionsOfTransformers() throws {
        let recorded = try Tensors("oracles/nano/recorded/scene-1.safetensors")
        let positions = recorded.numbers("position_ids")
        let prompt = try Prompt(
            tokens: tokens(), imagePad: imagePad, patches: noPatches(),
            geometry: PictureGeometry(bundle: bundle()), length: 1)
        XCTAssertEqual(prompt.ids.count, 32)
        for place in Int(prompt.ropeShiftStart)..<prompt.ids.count {
            XCTAssertEqual(Int32(place) - prompt.ropeShiftAmount, positions[place])
        }
    }

    func testTextAloneIsNotShifted() throws {
        let prompt = try Prompt(
            tokens: [1, 2], imagePad: imagePad, patches: nil,
            geometry: PictureGeometry(bundle: bundle()), length: 1)
        XCTAssertEqual(prompt.ids, [1, 2])
        XCTAssertEqual(prompt.ropeShiftStart, 1 << 30)
        XCTAssertEqual(prompt.ropeShiftAmount, 0)
    }

    func testAPictureTakesOnePlace() throws {
        let geometry = try PictureGeometry(bundle: bundle())
        for (tokens, patches) in [
            ([imagePad], nil), ([1], try noPatches()), ([imagePad, imagePad], try noPatches()),
        ] {
            XCTAssertThrowsError(
                try Prompt(
                    tokens: tokens, imagePad: imagePad, patches: patches, geometry: geometry,
                    length: 1))
        }
    }

    /// What transformers' processor gives: the cut to the byte, and the resampling within a level.
    func testPatchesAreThoseOfTransformers() throws {
        for (name, grid, tolerance) in [("down", 2, 1), ("up", 1, 1)] {
            let fixtures = "crates/picture/tests/fixtures/\(name)"
            let expected = [UInt8](try Data(contentsOf: file("\(fixtures).patches")))
            try compare(picture("\(fixtures).png"), grid, expected, tolerance)
        }
        for scene in ["scene-1", "scene-7"] {
            let recorded = try Tensors("oracles/nano/recorded/\(scene).safetensors")
            try compare(picture("oracles/nano/scenes/\(scene).png"), 4, recorded.raw("patches"), 0)
        }
    }

    private func compare(
        _ picture: (levels: [UInt8], width: Int, height: Int), _ grid: Int, _ expected: [UInt8],
        _ tolerance: Int
    ) throws {
        let geometry = try PictureGeometry(
            bundle: bundle(["grid": "\(grid)", "image_tokens": "\(grid * grid)"]))
        let patches = try Patches(
            levels: picture.levels, width: picture.width, height: picture.height,
            geometry: geometry)
        XCTAssertEqual([patches.rows, patches.columns], [4 * grid * grid, 1536])
        // f16 keeps a level between −1 and 1 to a tenth of one.
        let found = try patches.scalars().map { Int(((Float($0) + 1) * 127.5).rounded()) }
        XCTAssertEqual(found.count, expected.count)
        let off = zip(found, expected).map { abs($0 - Int($1)) }
        XCTAssertLessThanOrEqual(off.max() ?? 256, tolerance)
        // Rounding to 8 bits is a coin's toss now and then.
        XCTAssertLessThan(100 * off.filter { $0 > 0 }.count, expected.count)
    }

    func testGeometryOfAnotherKindIsRefused() throws {
        for (key, value) in [
            ("grid", "65"), ("grid", "four"), ("image_tokens", "15"), ("image_mean", "0,0,0"),
            ("image_std", "1,1,1"), ("resampling", "nearest"), ("patch_size", "0"),
        ] {
            XCTAssertThrowsError(try PictureGeometry(bundle: bundle([key: value]))) { error in
                XCTAssertTrue(error.localizedDescription.contains("user_data.\(key)"), "\(error)")
            }
        }
    }

    func testLevelsMustFitThePicture() throws {
        let geometry = try PictureGeometry(bundle: bundle())
        for (width, height) in [(2, 2), (0, 0), (-1, -1)] {
            XCTAssertThrowsError(
                try Patches(levels: [1, 2, 3], width: width, height: height, geometry: geometry))
        }
    }

    private func noPatches() throws -> Patches {
        let nothing = Data(#"{"rows": 0, "columns": 0, "values": ""}"#.utf8)
        return try JSONDecoder().decode(Patches.self, from: nothing)
    }

    /// Scene 1's prompt as a tokenizer gives it; the recorded one has sixteen tokens for the picture.
    private func tokens() throws -> [Int32] {
        let recorded = try Tensors("oracles/nano/recorded/scene-1.safetensors")
        let ids = recorded.numbers("input_ids").prefix(32)
        let place = try XCTUnwrap(ids.firstIndex(of: imagePad))
        return Array(ids[..<place]) + [imagePad] + ids[place...].filter { $0 != imagePad }
    }
}
