// swift-tools-version: 6.0

// Declarations of Apple's frameworks for a compiler on Linux: only what this repository's hosts
// call, written from the published documentation. Nothing behind them does anything.

import PackageDescription

let package = Package(
    name: "apple-frameworks",
    products: [
        .library(
            name: "AppleFrameworks",
            targets: [
                "CoreAI", "CoreGraphics", "CryptoKit", "FoundationModels", "ImageIO", "Metal",
                "PhotosUI", "SwiftUI", "UIKit",
            ])
    ],
    targets: [
        .target(name: "CoreAI", swiftSettings: [.enableExperimentalFeature("Lifetimes")]),
        .target(name: "CoreGraphics"),
        .target(name: "CryptoKit"),
        .target(name: "FoundationModels", dependencies: ["ImageIO"]),
        .target(name: "ImageIO", dependencies: ["CoreGraphics"]),
        .target(name: "Metal"),
        .target(name: "PhotosUI", dependencies: ["SwiftUI"]),
        .target(name: "SwiftUI", dependencies: ["CoreGraphics"]),
        .target(name: "UIKit"),
    ]
)
