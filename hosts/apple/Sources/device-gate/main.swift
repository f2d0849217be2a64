// The host on a Mac: device-gate FIXTURE BUNDLES TRANSCRIPT [coreai|pipelined]
//
// Run in release mode: in debug mode the host costs more than the GPU.

import DeviceGate
import Foundation

let arguments = CommandLine.arguments.dropFirst()
let paths = arguments.prefix(3).map { URL(filePath: $0) }
let choice = EngineChoice(rawValue: arguments.dropFirst(3).first ?? "coreai")
guard paths.count == 3, arguments.count <= 4, let engine = choice else {
    FileHandle.standardError.write(
        Data("usage: device-gate FIXTURE BUNDLES TRANSCRIPT [coreai|pipelined]\n".utf8))
    exit(2)
}
do {
    try await runGate(
        fixture: paths[0], bundlesIn: paths[1], transcript: paths[2], engine: engine,
        log: { print($0) })
} catch {
    FileHandle.standardError.write(Data("error: \(error.localizedDescription)\n".utf8))
    exit(2)
}
