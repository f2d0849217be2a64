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
        .target(name: "DeviceGate"),
        .executableTarget(name: "device-gate", dependencies: ["DeviceGate"]),
    ],
    swiftLanguageModes: [.v5]
)

// The pipelined engine lies outside Core AI, in a checkout of coreai-models that binds static
// inputs. Without it the host decodes with Core AI alone.
if let path = Context.environment["COREAI_MODELS"] {
    package.dependencies.append(.package(name: "coreai-models", path: path))
    package.targets[0].dependencies.append(.product(name: "CoreAILM", package: "coreai-models"))
}
