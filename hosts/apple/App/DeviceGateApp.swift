// The host on an iPhone: reads Documents/device-gate, writes transcript.json there.

import DeviceGate
import SwiftUI
import UIKit

@main
struct DeviceGateApp: App {
    @State private var lines: [String] = []
    @State private var isRunning = false

    /// Launched by `devicectl`: run at once, then end.
    private let isDriven = CommandLine.arguments.contains("--run")

    var body: some Scene {
        WindowGroup {
            List(lines.indices, id: \.self) { Text(lines[$0]).monospaced() }
                .safeAreaInset(edge: .bottom) {
                    Button("Run") { Task { await run() } }
                        .disabled(isRunning)
                        .padding()
                }
                .task {
                    guard isDriven else { return }
                    exit(await run() ? 0 : 2)
                }
        }
    }

    /// Whether there is a transcript now.
    @MainActor
    private func run() async -> Bool {
        isRunning = true
        // A locked iPhone gives the GPU little time.
        UIApplication.shared.isIdleTimerDisabled = true
        defer {
            isRunning = false
            UIApplication.shared.isIdleTimerDisabled = false
        }
        let folder = URL.documentsDirectory.appending(path: "device-gate")
        let pipelined = CommandLine.arguments.contains("pipelined")
        do {
            try await runGate(
                fixture: folder.appending(path: "fixture.json"),
                bundlesIn: folder,
                transcript: folder.appending(path: "transcript.json"),
                engine: pipelined ? .pipelined : .coreai,
                log: { line in
                    print(line)
                    Task { @MainActor in lines.append(line) }
                })
            return true
        } catch {
            print("error: \(error.localizedDescription)")
            lines.append("error: \(error.localizedDescription)")
            return false
        }
    }
}
