// swift-tools-version: 6.0

import PackageDescription

let package = Package(
    name: "VlmHost",
    platforms: [.macOS("27.0"), .iOS("27.0")],
    products: [
        .library(name: "VlmHost", targets: ["VlmHost"]),
        .executable(name: "vlm-ask", targets: ["vlm-ask"]),
    ],
    targets: [
        .target(
            name: "VlmHost",
            dependencies: [.product(name: "CoreAILM", package: "coreai-models")]),
        .executableTarget(name: "vlm-ask", dependencies: ["VlmHost"]),
    ],
    swiftLanguageModes: [.v5]
)

#if os(Linux)
// Nothing runs here: everything is compiled against stubs, the app included.
package.dependencies = [.package(path: "../Stubs/coreai-models")]
package.targets.append(
    .executableTarget(
        name: "VlmApp", dependencies: ["VlmHost"], path: "App",
        exclude: ["VlmApp.entitlements", "project.yml"]))
#else
// Apple's package as this code was written for it.
package.dependencies = [
    .package(
        url: "https://github.com/apple/coreai-models",
        revision: "86b363dca67cf276c1a5c96eea5e4b57e3a0643c")
]
#endif
