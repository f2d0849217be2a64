// In Apple's package.

import Foundation
import FoundationModels

public struct CoreAIVisionLanguageModel: LanguageModel {
    public init(resourcesAt url: URL) async throws { fatalError() }
}
