// swift-tools-version: 6.0

// Declarations of the package coreai-models for a compiler on Linux: what this repository's hosts
// call of Apple's, and of the fork that binds static inputs, in one.

import PackageDescription

let package = Package(
    name: "coreai-models",
    products: [.library(name: "CoreAILM", targets: ["CoreAILanguageModels"])],
    dependencies: [.package(path: "../apple-frameworks")],
    targets: [
        .target(
            name: "CoreAILanguageModels",
            dependencies: [.product(name: "AppleFrameworks", package: "apple-frameworks")])
    ]
)
