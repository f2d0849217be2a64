// swift-tools-version: 6.0

import PackageDescription

let package = Package(
    name: "DeviceGate",
    platforms: [.macOS("27.0"), .iOS("27.0")],
    products: [
        .library(name: "DeviceGate", targets: ["DeviceGate"]),
        .executable(name: "device-gate", targets: ["device-gate"]),
    ],
    targets: [
        // What needs none of Apple's frameworks. Its tests run on Linux, too.
        .target(name: "GateData"),
        .testTarget(
            name: "GateDataTests", dependencies: ["GateData"],
            exclude: ["fixture.json", "png_levels.py"]),
        .target(name: "DeviceGate", dependencies: ["GateData"]),
        .executableTarget(name: "device-gate", dependencies: ["DeviceGate"]),
    ],
    swiftLanguageModes: [.v5]
)

let deviceGate = package.targets.first { $0.name == "DeviceGate" }!

// The pipelined engine lies outside Core AI, in a fork of coreai-models that binds static inputs.
// Apple's own package has a module of the same name and does not, so the sources cannot tell by the
// import: they look at PIPELINED_ENGINE. Without a fork the host decodes with Core AI alone.
if let path = Context.environment["COREAI_MODELS_FORK"] {
    package.dependencies.append(.package(name: "coreai-models", path: path))
    deviceGate.dependencies.append(.product(name: "CoreAILM", package: "coreai-models"))
    deviceGate.swiftSettings = [.define("PIPELINED_ENGINE")]
}

#if os(Linux)
// Nothing runs here but the tests; all else is compiled against stubs, the app included.
let stubs = Target.Dependency.product(name: "AppleFrameworks", package: "apple-frameworks")
package.dependencies.append(.package(path: "Stubs/apple-frameworks"))
deviceGate.dependencies.append(stubs)
package.targets.append(
    .executableTarget(
        name: "DeviceGateApp", dependencies: ["DeviceGate", stubs], path: "App",
        exclude: ["DeviceGate.entitlements", "project.yml"]))
#endif
