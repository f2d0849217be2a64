import CoreAILanguageModels
import CoreGraphics
import Foundation
import FoundationModels

/// A bundle of the layout `vlm`, opened by Apple's package.
public struct VlmBundle: Sendable {
    private let model: CoreAIVisionLanguageModel

    /// Opens the bundle in `folder`. The first time on a device, Core AI specializes it, which takes
    /// long.
    public init(at folder: URL) async throws {
        model = try await CoreAIVisionLanguageModel(resourcesAt: folder)
    }

    /// The model's answer to a question about a picture, for which see ``uprightPicture(from:)``.
    public func answer(to question: String, about picture: CGImage) async throws -> String {
        // A session for each question: of a longer one, Apple's adapter takes the first picture and
        // the text of all questions.
        let session = LanguageModelSession(model: model)
        let response = try await session.respond {
            Attachment(picture)
            question
        }
        return response.content
    }
}

/// What went wrong, in words.
public struct HostError: LocalizedError {
    public let errorDescription: String?

    public init(_ description: String) {
        errorDescription = description
    }
}
